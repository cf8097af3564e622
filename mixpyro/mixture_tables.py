"""What the methods of a mixture return for frames: frames with the same row labels."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor

from mixpyro.arguments import guard
from mixpyro.groups import Groups
from mixpyro.tables.door import Returned, takes_tables
from mixpyro.tables.given import GivenRows, column_names
from mixpyro.tables.returned import RowLabels

Class = TypeVar("Class", bound=type)


def output_names(mixture: Any, n_outputs: int) -> tuple[str, ...]:  # noqa: ANN401 (a mixture)
    """Return the names of the columns of y: those of the fit, or numbered ones.

    Args:
        mixture: that remembers columns.
        n_outputs: P.
    """
    known = mixture.fitted_columns
    return column_names("y", None if known is None else known.layouts.y, n_outputs)


def _rows(given: GivenRows) -> RowLabels:
    """Return the labels of the rows."""
    return RowLabels(given.library, given.index)


def _objects(given: GivenRows, others: Mapping[str, Any]) -> RowLabels:
    """Return the labels of the objects: rows, or groups."""
    groups = others.get("groups")
    if groups is None:
        return _rows(given)
    return RowLabels(given.library, list(Groups.of(groups).ids))


def _predict(mixture: Any, result: Tensor, given: GivenRows, others: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return means as a Series for one output, a frame for several."""
    names = output_names(mixture, result.shape[1])
    labels = _rows(given)
    return labels.series(result[:, 0], names[0]) if len(names) == 1 else labels.frame(result, names)


def _quantile(mixture: Any, result: Tensor, given: GivenRows, others: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return quantiles as a frame, a column for each probability, or each output and probability."""
    levels = [round(level, 12) for level in given.tensors["probabilities"].tolist()]
    names = output_names(mixture, result.shape[2])
    columns = levels if len(names) == 1 else [(name, level) for name in names for level in levels]
    return _rows(given).frame(result.permute(1, 2, 0).flatten(1), columns)


def _log_prob(mixture: Any, result: Tensor, given: GivenRows, others: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return log densities as a Series."""
    return _objects(given, others).series(result, "log_prob")


def _of_components(mixture: Any, result: Tensor, given: GivenRows, others: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return values [N, K] as a frame with a column for each component."""
    return _objects(given, others).frame(result, range(mixture.n_components))


def _assign(mixture: Any, result: Any, given: GivenRows, others: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return responsibilities as a frame and log evidences as a Series."""
    labels = _objects(given, others)
    shares = labels.frame(result.responsibilities, range(mixture.n_components))
    return type(result)(shares, labels.series(result.log_evidence, "log_evidence"))


# What each method returns; None where its result stays as it is.
METHODS: dict[str, Returned | None] = {
    "predict": _predict,
    "predictive": None,
    "quantile": _quantile,
    "log_prob": _log_prob,
    "log_joint_predictive": None,
    "assign": _assign,
    "bound": None,
    "expected_log_joint": _of_components,
}


def take_tables(cls: Class) -> Class:
    """Let the methods of a mixture take tables, and return the class.

    Args:
        cls: its own methods are replaced.
    """
    for name, returned in METHODS.items():
        guard(cls, [name], _decorator(returned))
    return cls


def _decorator(returned: Returned | None) -> Callable[[Any], Any]:
    """Return what decorates a method with this result."""
    return lambda method: takes_tables(method, returned)
