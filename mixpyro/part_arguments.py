"""Checks at the public methods of gates and experts: of the rows and the statistics that a user gives."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pyro.poutine.runtime import am_i_wrapped
from torch import Tensor

from mixpyro import arguments
from mixpyro.fitted_part import FittedPart
from mixpyro.tables.door import first_tensor
from mixpyro.tables.given import numeric_rows

Result = TypeVar("Result")
# Methods that a user calls with rows, as the first argument.
OF_ROWS = (
    "weights",
    "predict",
    "expected_log_weights",
    "predictive_assignment",
    "logits",
    "predictive",
    "predictors",
    "expected_log_likelihood",
    "model",
    "guide",
    "assignment_guide",
    "statistics",
    "partial_bound",
    "centre",
)
# Those whose x may have a row for each object of several plates.
IN_PROGRAM = ("model", "guide", "assignment_guide")
# Those of experts alone, whose columns and values they check themselves.
OF_EXPERTS = ("predict", "predictive")


def _counts_alone(part: FittedPart, x: object) -> bool:
    """Return whether part and rows are on the ``meta`` device, where operations are counted and nothing is computed."""
    if not (isinstance(x, Tensor) and x.is_meta):
        return False
    own = first_tensor(part)
    return own is not None and own.is_meta


def _is_plain(x: object) -> bool:
    """Return whether rows are a dense tensor [N, D] of float32 or float64."""
    return type(x) is Tensor and x.ndim == 2 and x.dtype in arguments.DTYPES and arguments.is_dense(x)


def _check_kind(posterior: object) -> None:
    """Raise unless a posterior is a named tuple; what is in it fits the part that has made it."""
    if posterior is not None and not (isinstance(posterior, tuple) and hasattr(posterior, "_fields")):
        raise TypeError(f"`posterior` must be what `posterior` of the part is; got {arguments.shown(posterior)}.")


def _floating(part: Any, x: object) -> Tensor:  # noqa: ANN401 (a gate or experts)
    """Return rows, or those of a table, as a tensor of float32 or float64."""
    if not isinstance(x, Tensor):  # To look for a tensor of the part takes 10 µs.
        x = numeric_rows("x", x, like=first_tensor(part))
    rows = x if isinstance(x, Tensor) and _counts_alone(part, x) else arguments.a_tensor("x", x)
    if not rows.is_floating_point():  # Results have the dtype of x, and weights as integers are all zero.
        raise TypeError(f"`x` must have a floating dtype; got {rows.dtype}. Use x.double() or x.float().")
    if rows.dtype not in arguments.DTYPES:
        raise TypeError(f"`x` must have dtype float32 or float64; got {rows.dtype}. Use x.float().")
    return rows


def with_checked_rows(method: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate a method to take a table for rows, its first argument, and refuse what is no tensor, in words.

    Args:
        method: of a gate or of experts, one of ``OF_ROWS``.
    """
    in_program = method.__name__ in IN_PROGRAM
    of_experts = method.__name__ in OF_EXPERTS

    @functools.wraps(method)
    def with_rows(self: Any, *args: Any, **kwargs: Any) -> Result:  # noqa: ANN401 (they are the method's)
        if "posterior" in kwargs:
            _check_kind(kwargs["posterior"])
        if not args and "x" in kwargs:
            args = (kwargs.pop("x"),)
        # The common case first: a tensor that nothing below would change or refuse.
        if args and not of_experts and _is_plain(args[0]):
            return method(self, *args, **kwargs)
        if args:
            x = _floating(self, args[0])
            args = (x, *args[1:])
            if x.ndim != 2 and not (in_program and x.ndim) and not arguments.in_transform():
                raise ValueError(f"`x` must have shape [N, D]; got {list(x.shape)}.")
            if of_experts and not arguments.in_transform():
                self.check_inputs(x)
        if method.__name__ == "predictive":
            with arguments.parameters_are_numbers():
                return method(self, *args, **kwargs)
        return method(self, *args, **kwargs)

    return with_rows


def _are_of_user(y: Tensor) -> bool:
    """Return whether outputs may have impossible values: not those of a Pyro program or a fit, which were checked."""
    return not (am_i_wrapped() or y.is_meta or arguments.has_checked_rows()) and arguments.checks_values()


def with_checked_outputs(method: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate a method of rows to check the shapes of what it reads beside x, and to give one output its column.

    Args:
        method: of a gate or of experts, whose arguments are named as in :class:`~mixpyro.part.Part`.
    """
    signature = inspect.signature(method)

    @functools.wraps(method)
    def with_outputs(self: Any, *rows: Any, **named: Any) -> Result:  # noqa: ANN401 (they are the method's)
        if arguments.in_transform():
            return method(self, *rows, **named)
        if named:
            rows, named = signature.bind(self, *rows, **named).args[1:], {}
        n_rows = arguments.tensor("x", rows[0], ("N", "D") if rows[0].shape[-1:] != (0,) else ("N", 0)).shape[0]
        given = dict(zip([*signature.parameters][1:], rows, strict=False))
        if "y" in given:
            y = arguments.a_tensor("y", given["y"])
            y = y.unsqueeze(1) if y.ndim == 1 else y
            given["y"] = arguments.tensor("y", y, (n_rows, getattr(self, "n_outputs", "P")))
            if method.__name__ == "partial_bound" and _are_of_user(y):
                self.check_data(given["x"], given["y"])
        if given.get("weights") is not None:
            given["weights"] = arguments.tensor("weights", given["weights"], (n_rows,))
        if "responsibilities" in given:
            shape = (n_rows, self.n_components)
            given["responsibilities"] = arguments.tensor("responsibilities", given["responsibilities"], shape)
        return method(self, *given.values()) if len(given) == len(rows) else method(self, *rows)

    return with_outputs


def with_checked_statistics(method: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate an update to refuse what no method ``statistics`` has returned.

    Args:
        method: of a gate or of experts, whose first argument are the statistics.
    """

    @functools.wraps(method)
    def with_statistics(self: Any, statistics: Any, *args: Any, **kwargs: Any) -> Result:  # noqa: ANN401
        if not isinstance(statistics, tuple):
            raise TypeError(f"`statistics` must be what `statistics` returned; got {type(statistics).__name__}.")
        return method(self, statistics, *args, **kwargs)

    return with_statistics


def with_checked_components(method: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate a method to refuse what are no numbers of different components.

    Args:
        method: ``with_components`` of a gate or of experts.
    """

    @functools.wraps(method)
    def with_kept(self: Any, kept: Sequence[int]) -> Result:  # noqa: ANN401 (a part)
        return method(self, arguments.components("kept", kept, self.n_components))

    return with_kept


def with_checked_names(method: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate a method to refuse fewer names than columns of x.

    Args:
        method: one that names coefficients of a gate or of experts by the columns.
    """

    @functools.wraps(method)
    def with_names(self: Any, feature_names: Sequence[str]) -> Result:  # noqa: ANN401 (a part)
        names = arguments.texts("feature_names", feature_names)
        n_features = getattr(self, "n_features", 0)
        if len(names) < n_features:
            raise ValueError(f"`feature_names` must have a name for each of {n_features} columns; got {len(names)}.")
        return method(self, names)

    return with_names
