"""Names of the axes of arrays: objects, features, outputs, components."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.fitting.result import FitResult
from mixpyro.mixture import MixtureOfExperts
from mixpyro.tables.door import first_tensor, layouts_of
from mixpyro.tables.given import given_rows
from mixpyro.tables.layout import Layouts

# Which argument names the columns of x and y.
ARGUMENTS = {"x": "feature_names", "y": "output_names"}


@runtime_checkable
class Table(Protocol):
    """A pandas DataFrame or Series, or an object with the same attributes."""

    index: Any

    def to_numpy(self, dtype: Any = ...) -> np.ndarray:  # noqa: ANN401 (as in pandas)
        """Return the values as an array.

        Args:
            dtype: of the array.
        """
        ...


class Named(NamedTuple):
    """Rows as a tensor, with the names of its columns and rows."""

    values: Tensor  # [N, …]
    columns: list[str]
    rows: np.ndarray  # [N]


def named(values: Tensor | Table, columns: Sequence[str] | None, *, argument: str, prefix: str) -> Named:
    """Return rows with names: those given, a table's own, or numbered ones.

    Args:
        values: a tensor [N, D] or [N], or a DataFrame or Series, which becomes a float64 tensor.
        columns: D names; by default the table's own, or ``prefix`` and a number.
        argument: the caller's name for ``columns``, for the error.
        prefix: of numbered names.

    Raises:
        TypeError: if the values are neither.
        ValueError: if there is not one name a column.
    """
    if isinstance(values, Table) and not isinstance(values, Tensor):
        tensor = torch.tensor(values.to_numpy(dtype=np.float64), device="cpu")
        own, rows = _own_names(values), np.asarray(values.index)
    else:
        name = {"g": "gate_x"}.get(prefix, prefix)
        tensor = arguments.a_tensor(name, values)
        if not tensor.ndim:
            raise ValueError(f"`{name}` must have shape [N, D] or [N]; got [].")
        own, rows = None, np.arange(len(tensor))
    n_columns = tensor.shape[1] if tensor.ndim > 1 else 1
    names = own if columns is None else list(columns)
    names = [f"{prefix}{number}" for number in range(n_columns)] if names is None else names
    if len(names) != n_columns:
        raise ValueError(f"`{argument}` must be {n_columns} names, one a column; got {len(names)}.")
    return Named(tensor, names, rows)


def named_rows(
    fitted: FitResult | MixtureOfExperts,
    x: Any,  # noqa: ANN401 (a tensor or a table)
    y: Any,  # noqa: ANN401
    gate_x: Any,  # noqa: ANN401
    *,
    feature_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
) -> tuple[Named, Named, Named | None]:
    """Return x, y and what the gate reads with names, of the result itself where x and y are None.

    Args:
        fitted: a result or a mixture.
        x: inputs [N, D], or a table of them.
        y: outputs [N, P] or [N], or a table of them.
        gate_x: what the gate reads [N, G], or a table of it; None where that is x.
        feature_names: D names of the columns of x; those of frames by default, else numbered ones.
        output_names: P names of the columns of y; as for x.

    Raises:
        TypeError: if one is neither a tensor nor a table.
        ValueError: if there is not one name a column, or tables do not fit the mixture.
    """
    own = fitted.rows if isinstance(fitted, FitResult) else None
    mixture = fitted.mixture if isinstance(fitted, FitResult) else fitted
    if not isinstance(mixture, MixtureOfExperts):
        raise TypeError(f"`fitted` must be what `fit` returned, or a mixture; got {arguments.shown(fitted)}.")
    if x is None and y is None and own is not None:
        given = own
    elif y is None:
        raise ValueError("`y` must be given for a mixture, and with `x`; got None.")
    else:
        data = {"x": x, "y": y, "gate_x": gate_x}
        given = given_rows(data, known=layouts_of(mixture), like=first_tensor(mixture))
    known = layouts_of(mixture)
    layouts = given.layouts if known == Layouts() else known
    index = None if given.index is None else np.asarray(given.index)

    def with_names(argument: str, value: Tensor, columns: Sequence[str] | None, prefix: str) -> Named:
        layout = getattr(layouts, argument)
        fits = layout is not None and len(layout.coded_names) == (value.shape[1] if value.ndim > 1 else 1)
        own_names = list(layout.coded_names) if columns is None and fits and all(layout.coded_names) else columns
        found = named(value, own_names, argument=ARGUMENTS.get(argument, argument), prefix=prefix)
        return found if index is None else found._replace(rows=index)

    gate = None if given.gate_x is None else with_names("gate_x", given.gate_x, None, "g")
    return with_names("x", given.x, feature_names, "x"), with_names("y", given.tensors["y"], output_names, "y"), gate


def _own_names(table: Table) -> list[str] | None:
    """Return the names of a DataFrame's columns, or that of a Series if it has one."""
    if hasattr(table, "columns"):
        return [str(column) for column in table.columns]
    name = getattr(table, "name", None)
    return None if name is None else [str(name)]


def labels_of_ids(ids: Sequence[Hashable]) -> np.ndarray:
    """Return the ids of groups as labels along an axis [G]: numbers or strings as they are, others in words.

    Args:
        ids: at least one.
    """
    for kind in (bool, int, float, str):
        if all(type(one) is kind for one in ids):
            return np.array(ids)
    return np.array([str(one) for one in ids], dtype=np.str_)


def coordinates(
    *,
    n_components: int,
    objects: np.ndarray,
    rows: np.ndarray | None = None,
    features: Sequence[str] = (),
    n_regressors: int | None = None,
    gate_features: Sequence[str] = (),
    gate_nodes: Sequence[str] = (),
    outputs: Iterable[str] = (),
    n_predictors: int = 1,
) -> dict[str, np.ndarray]:
    """Return the labels along each axis, by the name of the axis.

    Args:
        n_components: K.
        objects: labels of the objects [N].
        rows: labels of the rows, where objects are groups of them; None where they are the objects.
        features: names of the columns of x.
        n_regressors: number of features that the experts regress on, the first ones; all by default. The axis
            ``regressor`` is an intercept and these.
        gate_features: names of the columns that the gate reads.
        gate_nodes: names of the nodes of a gate that is a tree.
        outputs: names of the columns of y.
        n_predictors: number of linear predictors of an expert, one less than the categories of a categorical y. The
            first category is the reference, so the axis ``category`` begins at 1.
    """
    of_rows = {} if rows is None else {"row": rows}
    return of_rows | {
        "component": np.arange(n_components),
        # Log odds against component 0.
        "gate_component": np.arange(1, n_components),
        "gate_node": np.array(list(gate_nodes), dtype=np.str_),
        "object": objects,
        "feature": np.array(list(features), dtype=np.str_),
        "gate_feature": np.array(list(gate_features), dtype=np.str_),
        "gate_regressor": np.array(["intercept", *gate_features], dtype=np.str_),
        "output": np.array(list(outputs), dtype=np.str_),
        "category": np.arange(1, n_predictors + 1),
        "regressor": np.array(["intercept", *list(features)[:n_regressors]], dtype=np.str_),
    }


def site_axes(
    site: str, shape: Sequence[int], axes: Mapping[str, tuple[str, ...]], labels: Mapping[str, np.ndarray]
) -> tuple[str, ...]:
    """Return the names of the axes of a site's value.

    An axis whose name does not fit its length is numbered.

    Args:
        site: full name, as in ``experts.coefficients``.
        shape: of one draw.
        axes: the names of the axes, by the last part of the site's name.
        labels: result of :func:`coordinates`. An axis ``regressor`` that is as long as ``feature`` has no intercept. An
            axis ``output`` of another length than ``output`` is one of categories.
    """
    expected = axes.get(site.rsplit(".", 1)[-1], ("component",))
    names: list[str] = []
    for number, length in enumerate(shape):
        name = expected[number] if number < len(expected) else ""
        if name == "regressor" and length == len(labels["feature"]):
            name = "feature"
        if name == "output" and length != len(labels["output"]):
            name = "category"
        fits = name in labels and len(labels[name]) == length
        names.append(name if fits and name not in names else f"{site}_dim_{number}")
    return tuple(names)
