"""Responsibilities of rows that are so far from every component that float32 has no digits of them.

The square of a float32 overflows at 2·10¹⁹. A row out there has a log density of −∞ in every component, and no
responsibilities. Long before, the difference of two log densities drowns in their rounding errors. Such rows are few:
they are computed again in float64.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mixpyro.arguments import has_derivatives
from mixpyro.numerics.normalised import differentiated, normalised
from mixpyro.numerics.segments import in_float64, selected

# Log evidence in nats, in absolute value, beyond which a row's responsibilities are computed in float64: rounding
# errors of a float32 that large are a thousandth.
FAR = 8192.0


def normalised_joint(
    log_joint: Callable[..., Tensor],
    gate_x: Tensor,
    columns: Any,  # noqa: ANN401 (a nest of tensors)
    state: Any = None,  # noqa: ANN401 (a nest of tensors)
    *,
    objects: Any = None,  # noqa: ANN401 (a slice, or indices)
    far: float = math.inf,
) -> tuple[Tensor, Tensor]:
    """Return responsibilities [..., K, N] and log evidences [..., N] in nats, of far rows by way of float64.

    Args:
        log_joint: of a mixture: called with the four arguments that follow, it returns [..., K, N].
        gate_x: what the gate reads [N, G].
        columns: what the experts read, a nest of tensors with rows along the last axis, or
            :class:`~mixpyro.numerics.segments.Grouped`.
        state: of R runs, or None.
        objects: which objects of the last update the rows are.
        far: log evidence, in absolute value, beyond which a row is far; by default where it is not finite.

    Returns:
        Responsibilities in the dtype of the log joint, and log evidences; these are float64 where a row is far, for
        they may be too large for another dtype. On a GPU no row is far, unless ``far`` is given: to ask would be to
        wait.
    """
    first = log_joint(gate_x, columns, state, objects=objects).contiguous()
    if has_derivatives(first):
        # Values may not be read there to find out which rows are far.
        wide = log_joint(gate_x.double(), in_float64(columns), state, objects=objects)
        shares, log_evidence = differentiated(wide)
        return shares.to(first.dtype), log_evidence
    shares, log_evidence = normalised(first)
    if first.dtype == torch.float64 or not (first.is_cpu or math.isfinite(far)):
        return shares, log_evidence
    is_far = ~(log_evidence.abs() <= min(far, torch.finfo(first.dtype).max))
    if not bool(is_far.any()):
        return shares, log_evidence
    rows = is_far.reshape(-1, len(gate_x)).any(0).nonzero().squeeze(-1)
    far_shares, far_evidence = normalised(_in_float64(log_joint, gate_x, columns, state, objects, rows))
    log_evidence = log_evidence.double()
    shares[..., rows], log_evidence[..., rows] = far_shares.to(shares.dtype), far_evidence
    return shares, log_evidence


def rounded(log_evidence: Tensor, dtype: torch.dtype) -> Tensor:
    """Return log evidences in a dtype: of a row that is possible, not below the lowest number that it has.

    Args:
        log_evidence: [..., N] in nats, of that dtype or float64.
        dtype: a floating one.
    """
    lowest = torch.finfo(dtype).min
    return torch.where(log_evidence == -torch.inf, log_evidence, log_evidence.clamp_min(lowest)).to(dtype)


def _in_float64(
    log_joint: Callable[..., Tensor],
    gate_x: Tensor,
    columns: Any,  # noqa: ANN401
    state: Any,  # noqa: ANN401
    objects: Any,  # noqa: ANN401
    rows: Tensor,
) -> Tensor:
    """Return the log joint of some of the rows, computed in float64."""
    if isinstance(objects, slice) and (objects.step not in (None, 1) or (objects.start or 0) < 0):
        # Which objects these rows are depends on how many there are: compute all rows.
        whole = log_joint(gate_x.double(), in_float64(columns), state, objects=objects)
        return whole[..., rows].contiguous()
    if objects is not None:
        objects = (objects.start or 0) + rows if isinstance(objects, slice) else objects[rows]
    some = in_float64(selected(columns, rows))
    return log_joint(gate_x[rows].double(), some, state, objects=objects).contiguous()
