"""What the methods of a mixture return for frames: frames with the same row labels."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor

from mixpyro.arguments import guard
from mixpyro.groups import groups_of
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


def framed_means(mixture: Any, means: Tensor, labels: RowLabels) -> Any:  # noqa: ANN401 (a mixture; a frame)
    """Return means as a Series for one output, a frame for several, as they are without labels.

    Args:
        mixture: that remembers columns.
        means: [N, P].
        labels: of the rows.
    """
    if not labels.package:
        return means
    names = output_names(mixture, means.shape[1])
    return labels.series(means[:, 0], names[0]) if len(names) == 1 else labels.frame(means, names)


def framed_quantiles(mixture: Any, quantiles: Tensor, levels: Tensor, labels: RowLabels) -> Any:  # noqa: ANN401
    """Return quantiles as a frame, a column for each probability, or each output and probability.

    Args:
        mixture: that remembers columns.
        quantiles: [Q, N, P].
        levels: the probabilities [Q].
        labels: of the rows; without any the quantiles are returned as they are.
    """
    if not labels.package:
        return quantiles
    names, columns = output_names(mixture, quantiles.shape[2]), [round(level, 12) for level in levels.tolist()]
    if len(names) > 1:
        columns = [(name, level) for name in names for level in columns]
    return labels.frame(quantiles.permute(1, 2, 0).flatten(1), columns)


def _objects(given: GivenRows, others: Mapping[str, Any]) -> RowLabels:
    """Return the labels of the objects: rows, or groups."""
    groups = others.get("groups")
    if groups is None:
        return given.labels
    return RowLabels(given.package, list(groups_of(groups).ids))


def _predict(mixture: Any, result: Tensor, given: GivenRows, others: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return means by row label."""
    return framed_means(mixture, result, given.labels)


def _quantile(mixture: Any, result: Tensor, given: GivenRows, others: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return quantiles by row label."""
    return framed_quantiles(mixture, result, given.tensors["probabilities"], given.labels)


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
