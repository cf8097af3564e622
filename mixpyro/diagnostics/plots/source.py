"""What plots read of a fit: the mixture, its rows with their names, and draws of its parameters."""

from functools import cached_property
from numbers import Integral
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.arguments import shown
from mixpyro.diagnostics.arrays import GROUP_NUMBER, name_of_output
from mixpyro.diagnostics.arviz_versions import ArvizData, group
from mixpyro.diagnostics.made_from import mixture_of
from mixpyro.diagnostics.plots.parameter_draws import ParameterDraws, drawn_here, drawn_there
from mixpyro.fitting.result import FitResult
from mixpyro.mixture import MixtureOfExperts


class PlottedRows(NamedTuple):
    """Rows and what their columns are called."""

    x: Tensor  # [N, D]
    y: Tensor  # [N, P], NaN where it was not observed
    gate_x: Tensor | None  # [N, G]; None where the gate reads x
    x_names: tuple[str, ...]
    y_names: tuple[str, ...]
    gate_names: tuple[str, ...]


class Source:
    """A fit as plots read it.

    Args:
        fitted: a result, or a mixture.
        data: result of :func:`mixpyro.to_arviz` to take draws from; without, they are made on first use.
        rows: that were fitted.
        number: of the group of each row [N], where objects are groups.
    """

    def __init__(
        self,
        fitted: FitResult | MixtureOfExperts,
        data: ArvizData | None,
        rows: PlottedRows,
        number: np.ndarray | None = None,
    ) -> None:
        self.result = fitted if isinstance(fitted, FitResult) else None
        self.mixture = fitted.mixture if isinstance(fitted, FitResult) else fitted
        self.data, self.rows, self._number = data, rows, number

    @property
    def gate_x(self) -> Tensor:
        """What the gate reads [N, G]."""
        return self.rows.x if self.rows.gate_x is None else self.rows.gate_x

    @property
    def x(self) -> np.ndarray:
        """Inputs [N, D], float64."""
        return as_array(self.rows.x)

    @property
    def y(self) -> np.ndarray:
        """Outputs [N, P], float64."""
        return as_array(self.rows.y)

    @cached_property
    def shares(self) -> np.ndarray | None:
        """Responsibilities of the rows [N, K], those of their groups where there are groups; None of a mixture."""
        return None if self.result is None else self.of_rows(as_array(self.result.shares))

    @cached_property
    def weights(self) -> np.ndarray:
        """How much each row counts [N]."""
        if self.result is None or self.result.weights is None:
            return np.ones(len(self.rows.x))
        return self.of_rows(as_array(self.result.weights))

    @cached_property
    def draws(self) -> ParameterDraws:
        """Draws of the parameters, those of the ArviZ data where they were given."""
        if self.data is not None:
            return drawn_there(self.data, self.mixture, self.rows.x, self.gate_x)
        return drawn_here(self.mixture if self.result is None else self.result, *self.rows[:3])

    @property
    def exposure_column(self) -> int | None:
        """Number of the column of x that is an exposure or trials, the last one; None without."""
        parts = self.mixture.experts.modules()
        return len(self.rows.x_names) - 1 if any(getattr(part, "exposure", False) for part in parts) else None

    def as_exposures(self, column: int, values: np.ndarray) -> np.ndarray:
        """Return values of a column, rounded to 1 or more where it has trials, which are whole numbers.

        Args:
            column: of x.
            values: of any shape.
        """
        is_count = column == self.exposure_column and bool((self.x[:, column] % 1.0 == 0.0).all())
        return np.maximum(np.round(values), 1.0) if is_count else values

    def of_rows(self, values: np.ndarray) -> np.ndarray:
        """Return for each row what its object has.

        Args:
            values: of the objects [N, …].
        """
        return values if self._number is None else values[self._number]

    def given_shares(self, responsibilities: object) -> np.ndarray:
        """Return responsibilities of the rows [N, K] of those that a caller gave.

        Args:
            responsibilities: of the objects, in any form of numbers.

        Raises:
            TypeError: if they are no numbers.
            ValueError: if there is not one for each object and component.
        """
        n_objects = len(self.rows.x) if self._number is None else int(self._number.max()) + 1
        given = arguments.of_numbers("responsibilities", responsibilities)
        numbers = torch.as_tensor(given, dtype=torch.float64, device="cpu")
        checked = arguments.responsibilities(numbers, self.mixture.n_components, n_objects)
        return self.of_rows(checked.numpy())

    def column(self, feature: int | str, *, of_gate: bool = False, argument: str = "feature") -> int:
        """Return the number of an input.

        Args:
            feature: its number, from 0, or its name.
            of_gate: whether it is one that the gate reads, rather than one of x.
            argument: the caller's name for it, for the message.

        Raises:
            ValueError: if there is no such column.
        """
        names = self.rows.gate_names if of_gate else self.rows.x_names
        return _number_of(feature, names, argument, "columns that the gate reads" if of_gate else "columns of x")

    def output(self, output: int | str) -> int:
        """Return the number of an output.

        Args:
            output: its number, from 0, or its name.

        Raises:
            ValueError: if there is no such column.
        """
        return _number_of(output, self.rows.y_names, "output", "columns of y")


def source_of(result: object, fitted: object = None, data: ArvizData | None = None) -> Source:
    """Return what a plot reads.

    Args:
        result: of a fit, or a mixture with ``data``; or the data, followed by the fit or mixture.
        fitted: the fit or mixture where the data come first.
        data: result of :func:`mixpyro.to_arviz`.

    Raises:
        TypeError: if an argument is none of these.
        ValueError: if the data are of another fit, or there are neither data nor rows.
    """
    if is_arviz(result):
        result, data = fitted, result
    elif is_arviz(fitted):
        data = fitted
    elif fitted is not None:
        raise TypeError(f"`data` must be what `to_arviz` returned; got {type(fitted).__name__}.")
    if not isinstance(result, FitResult | MixtureOfExperts):
        raise TypeError(
            f"`result` must be what `fit` returned; got {type(result).__name__}. With draws of your own, also pass "
            "`data=to_arviz(result, …)`."
        )
    if data is not None and not is_arviz(data):
        raise TypeError(f"`data` must be what `to_arviz` returned; got {type(data).__name__}.")
    rows = rows_of(result) if data is None else rows_of_data(data, result)
    if data is not None:
        mixture_of(data, result)
        number = group(data, "constant_data").get(GROUP_NUMBER)
        return Source(result, data, rows, None if number is None else number.values)
    groups = result.groups if isinstance(result, FitResult) else None
    return Source(result, None, rows, None if groups is None else groups.index.cpu().numpy())


def is_arviz(value: object) -> bool:
    """Whether something is a container of ArviZ.

    Args:
        value: anything.
    """
    return type(value).__name__ in ("InferenceData", "DataTree")


def as_array(values: Tensor) -> np.ndarray:
    """Return a tensor as a float64 array.

    Args:
        values: of any shape.
    """
    return np.asarray(values.detach().double().cpu().numpy())


def rows_of(fitted: FitResult | MixtureOfExperts) -> PlottedRows:
    """Return the rows that a result keeps.

    Args:
        fitted: a result, or a mixture, which has none.

    Raises:
        ValueError: if it keeps none.
    """
    rows = fitted.rows if isinstance(fitted, FitResult) else None
    if rows is None:
        raise ValueError(
            "`data` must be given for a fit that keeps no rows, as a mixture or the result of a stream; got None. "
            "Pass data=to_arviz(result.mixture, x, y)."
        )
    return PlottedRows(rows.x, rows.y, rows.gate_x, *rows.names)


def rows_of_data(data: ArvizData, fitted: FitResult | MixtureOfExperts) -> PlottedRows:
    """Return the rows that ArviZ data were made from.

    Args:
        data: result of :func:`mixpyro.to_arviz`.
        fitted: the fit or mixture that they are of.
    """
    constants, observed = group(data, "constant_data"), next(iter(group(data, "observed_data").values()))
    mixture = fitted.mixture if isinstance(fitted, FitResult) else fitted
    device = next((part.device for part in (*mixture.parameters(), *mixture.buffers())), torch.device("cpu"))
    x = torch.tensor(constants["x"].values, device=device)
    gate_x = torch.tensor(constants["gate_x"].values, device=device) if "gate_x" in constants else None
    y = torch.tensor(observed.values.reshape(len(observed), -1), device=device).to(x)
    x_names = tuple(str(name) for name in constants["x"].coords[constants["x"].dims[1]].values)
    own = constants["gate_x"] if gate_x is not None else constants["x"]
    gate_names = tuple(str(name) for name in own.coords[own.dims[1]].values)
    return PlottedRows(x, y, gate_x, x_names, tuple(name_of_output(observed, p) for p in range(y.shape[1])), gate_names)


def _number_of(wanted: int | str, names: tuple[str, ...], argument: str, what: str) -> int:
    """Return the number of a column that is given by number or name."""
    if isinstance(wanted, str):
        if wanted not in names:
            raise ValueError(
                f"`{argument}` must be one of the {what}, {', '.join(names) or 'none'}; got {shown(wanted)}."
            )
        return names.index(wanted)
    if isinstance(wanted, bool) or not isinstance(wanted, Integral):
        raise TypeError(f"`{argument}` must be the number or the name of one of the {what}; got {shown(wanted)}.")
    if not -len(names) <= wanted < len(names):
        known = f" ({', '.join(names)})" if names else ""
        raise ValueError(f"`{argument}` must be below {len(names)}, the number of columns{known}; got {wanted}.")
    return int(wanted) % len(names)
