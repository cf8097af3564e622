"""Reports of a fit, which read its own rows where no others are given, and tables wherever rows are."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from torch import Tensor, nn

from mixpyro import arguments
from mixpyro.fitting.result import FitResult
from mixpyro.mixture import MixtureOfExperts
from mixpyro.tables.door import DATA, first_tensor, layouts_of
from mixpyro.tables.given import GivenRows, given_rows, is_plain

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def reads_rows(report: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a report whose first argument is a result or a mixture, and that reads x, y and ``gate_x``.

    Without x and y, it reads the rows of the result, whose names are those of the columns. Tables become tensors.

    Args:
        report: a function of the result or mixture, x, y and keywords; tensors reach it.
    """
    signature = inspect.signature(report)

    @functools.wraps(report)
    def of_rows(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        bound = signature.bind(*args, **kwargs)
        fitted = next(iter(bound.arguments.values()))
        _fill(bound.arguments, fitted, signature.parameters)
        return report(*bound.args, **bound.kwargs)

    return of_rows


def _fill(given: dict[str, Any], fitted: object, parameters: Mapping[str, Any]) -> None:
    """Put the rows of a result, or tensors of tables, among the arguments of a report."""
    own = fitted.rows if isinstance(fitted, FitResult) else None
    names = own
    if given.get("x") is None and given.get("y") is None:
        if own is None:
            _check_kind(fitted, next(iter(parameters)))
            raise ValueError(
                "`x` and `y` must be given: only the result of `fit` or `fit_minibatches` keeps the rows; got none."
            )
        given |= {"x": own.x, "y": own.y}
        if given.get("gate_x") is None:
            given["gate_x"] = own.gate_x
    mixture = fitted.mixture if isinstance(fitted, FitResult) else fitted
    # A report of outputs alone has inputs without columns.
    data = {name: given[name] for name in DATA if name in given} | {name: given.get(name) for name in ("x", "gate_x")}
    if isinstance(mixture, MixtureOfExperts) and not all(map(is_plain, data.values())):
        known = layouts_of(mixture)
        rows = given_rows(data, known=known, like=first_tensor(mixture), groups=given.get("groups"))
        given.update(rows.tensors)
        names = rows if rows.package else names
    elif isinstance(given.get("y"), Tensor) and given.get("x") is None:
        y = arguments.a_tensor("y", given["y"])
        if y.ndim not in (1, 2):
            raise ValueError(f"`y` must have shape [N, P] or [N]; got {list(y.shape)}.")
        given["x"] = y.new_zeros(len(y), 0)
    if names is not None and names.package:
        _fill_names(given, names, parameters)


def _check_kind(fitted: object, name: str) -> None:
    """Raise if a value is neither a result nor a mixture nor a part of one."""
    if not isinstance(fitted, FitResult | nn.Module):
        raise TypeError(f"`{name}` must be what `fit` returned, or a mixture; got {arguments.shown(fitted)}.")


def _fill_names(given: dict[str, Any], names: GivenRows, parameters: Mapping[str, Any]) -> None:
    """Put the names of the columns of frames among the arguments of a report that takes any."""
    if "feature_names" in parameters and given.get("feature_names") is None and names.x.shape[1]:
        given["feature_names"] = list(names.names.x)
    has_own = names.gate_x is not None and names.layouts.gate_x is not None
    if "gate_feature_names" in parameters and given.get("gate_feature_names") is None and has_own:
        given["gate_feature_names"] = list(names.names.gate_x)
