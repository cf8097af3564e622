"""The rows that a result was fitted to, told from any others by the bound that they give."""

import math

import torch
from torch import Tensor

from mixpyro.fitting.known_labels import joint_of
from mixpyro.fitting.result import FitResult
from mixpyro.fitting.table import Table, checked_table
from mixpyro.groups import Groups, groups_of
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.far_rows import FAR, normalised_joint, rounded

# Roundings of each row's log evidence, and nats beside, that the bound of the same rows may be off by.
ROUNDINGS, LEAST_DIFFERENCE = 64.0, 1e-6


@torch.no_grad()
def fitted_rows(
    result: FitResult, x: Tensor, y: Tensor, gate_x: Tensor | None = None, weights: Tensor | None = None
) -> Table:
    """Return the rows, with the weights and known components of the fit, if they are those that were fitted.

    The bound of the rows must be the result's, to some roundings of their dtype. They are grouped as in the fit.

    Args:
        result: of a fit.
        x: inputs [N, D].
        y: outputs [N, P] or [N].
        gate_x: the gate's inputs [N, G], if they were not x.
        weights: of the rows [N]; those of the fit by default.

    Raises:
        TypeError: if one is no floating tensor.
        ValueError: if a shape does not fit, or the bound is another one.
    """
    refuse_processes_of(result)
    groups = result.groups
    n_rows = len(result.shares) if groups is None else len(groups.index)
    if isinstance(x, Tensor) and x.ndim and len(x) != n_rows:
        raise ValueError(f"`x` must be what was fitted, {n_rows} rows; got {len(x)}.")
    table = checked_table(result.mixture, x, y, gate_x, None if weights is None else weights.to(y), groups=groups)
    if weights is None and result.weights is not None:
        table = table._replace(weights=result.weights.to(table.x))
    labels = None if result.observed is None else result.observed.to(table.x.device)
    table = table._replace(labels=labels).with_columns(result.mixture.experts)
    log_joint, columns = joint_of(result.mixture, table.columns, labels)
    _, log_evidence = normalised_joint(log_joint, table.gate_x, columns, objects=slice(None), far=FAR)
    evidence = table.weighted(rounded(log_evidence, table.x.dtype)).double()
    bound = float(evidence.sum() - result.mixture.kl_divergence())
    allowed = LEAST_DIFFERENCE + _precision(result, table) * (table.n_objects + float(evidence.abs().sum()))
    # A bound that is not finite makes what is allowed infinite, too.
    is_same = math.isfinite(bound) and abs(bound - result.bound) <= allowed
    if math.isfinite(result.bound) and not is_same:
        raise ValueError(
            "`x` and `y` must be the rows that were fitted, in order, with `gate_x` and `weights` as they were; got a "
            f"bound of {bound:.8g} nats where the fit reached {result.bound:.8g}. Pass the data of the fit. If they "
            "are, the mixture has been changed since: fit again, or use `result.at(0)`."
        )
    return table


def refuse_processes_of(result: FitResult, advice: str = "") -> None:
    """Raise if this process has some of the rows of a fit alone, for a report that reads all.

    Args:
        result: of a fit.
        advice: what else can be done.

    Raises:
        ValueError: with how to get the report.
    """
    if result.n_processes > 1:
        raise ValueError(
            f"`result` must be of a fit in one process for a report that reads every row; got one of "
            f"{result.n_processes} processes, each with rows of its own. Call `fit` in one process with all rows, the "
            f"same arguments and the same `checkpoint`: it returns what was found at once. {advice}".rstrip()
        )


def _precision(result: FitResult, table: Table) -> float:
    """Return the relative precision to which the bound must agree: some roundings of the coarsest dtype."""
    tensors = [table.x, *result.mixture.parameters(), *result.mixture.buffers()]
    kinds = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    kinds += [] if result.data is None else [result.data.dtype]
    return ROUNDINGS * max(torch.finfo(kind).eps for kind in kinds)


def groups_of_fit(result: FitResult, groups: object) -> Groups | None:
    """Return the groups of a fit's rows, which given ones must equal.

    Args:
        result: of a fit.
        groups: an id of the group of each row [N]; None for those of the fit.

    Raises:
        TypeError: if ids are no sequence of hashable values.
        ValueError: if they are others than those of the fit.
    """
    if groups is None:
        return result.groups
    given = groups_of(groups)
    if not given.same_as(result.groups):
        of_fit = "none" if result.groups is None else f"{len(result.groups)} groups"
        raise ValueError(
            f"`groups` must be those of the fit, {of_fit}; got {len(given)} groups of {len(given.index)} rows. Leave "
            "it out: a result has them."
        )
    return result.groups


def refuse_missing(y: object, report: str) -> None:
    """Raise if outputs were not observed, for a report that needs them all.

    Args:
        y: outputs [N, P] or [N].
        report: what would be wrong, for the message.

    Raises:
        ValueError: if one is NaN.
    """
    if isinstance(y, Tensor) and y.is_floating_point() and bool(y.isnan().any()):
        raise ValueError(
            f"`y` must have no missing outputs for {report}; got {int(y.isnan().sum())} NaN. Fit the rows whose "
            "outputs are all there, for which the fit is the same where the others have none, and predict the others."
        )


def refuse_known_labels(fitted: FitResult | MixtureOfExperts, report: str) -> None:
    """Raise if a fit knew components of rows, for a report that takes every assignment as unknown.

    Args:
        fitted: a result, or a mixture, of which it is not known.
        report: what would be wrong, for the message.

    Raises:
        ValueError: if there are known components.
    """
    if isinstance(fitted, FitResult) and fitted.observed is not None:
        raise ValueError(
            f"`fitted` must be a fit without `observed` components, which {report} would take as unknown; got one "
            f"that knew those of {int((fitted.observed >= 0).sum())} rows. Use `criteria` or `coefficients`, which "
            "read them."
        )
