"""The rows that a result was fitted to, told from any others by the bound that they give."""

import math

import torch
from torch import Tensor

from mixpyro.fitting.result import FitResult
from mixpyro.fitting.table import Table, checked_table

# Roundings of each row's log evidence, and nats beside, that the bound of the same rows may be off by.
ROUNDINGS, LEAST_DIFFERENCE = 64.0, 1e-6


@torch.no_grad()
def fitted_rows(
    result: FitResult, x: Tensor, y: Tensor, gate_x: Tensor | None = None, weights: Tensor | None = None
) -> Table:
    """Return the rows, with the weights of the fit, if they are those that were fitted.

    The bound of the rows must be the result's, to some roundings of their dtype.

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
    n_rows = len(result.responsibilities)
    if isinstance(x, Tensor) and len(x) != n_rows:
        raise ValueError(f"`x` must be what was fitted, {n_rows} rows; got {len(x)}.")
    weights = result.weights if weights is None else weights
    table = checked_table(result.mixture, x, y, gate_x, None if weights is None else weights.to(y))
    assigned = result.mixture.assign(x, y, gate_x=gate_x, objects=slice(None))
    evidence = table.weighted(assigned.log_evidence).double()
    bound = float(evidence.sum() - result.mixture.kl_divergence())
    allowed = LEAST_DIFFERENCE + _precision(result, table) * (table.n_objects + float(evidence.abs().sum()))
    if math.isfinite(result.bound) and not abs(bound - result.bound) <= allowed:
        raise ValueError(
            f"`x` and `y` must be the rows that were fitted, with `gate_x` and `weights` as they were; got a bound of "
            f"{bound:.8g} nats where the fit reached {result.bound:.8g}. Pass the data of the fit. If they are, the "
            "mixture has been changed since: fit again, or use `result.at(0)`."
        )
    return table


def _precision(result: FitResult, table: Table) -> float:
    """Return the relative precision to which the bound must agree: some roundings of the coarsest dtype."""
    tensors = [table.x, *result.mixture.parameters(), *result.mixture.buffers()]
    kinds = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    kinds += [] if result.data is None else [result.data.dtype]
    return ROUNDINGS * max(torch.finfo(kind).eps for kind in kinds)
