"""An upper bound on E log Σ exp η of Normal variables, tight to second order in their variances."""

from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro.arguments import has_derivatives

# Largest distance from the fixed point, in probability, at which the iteration ends. The bound is off by its square.
TOLERANCE = 1e-9
# Most damped steps, and most of Newton's method after them, for the rows of large variance that are still away.
MOST_DAMPED, MOST_NEWTON = 12, 60
# Most halvings of such a step by which the bound does not fall.
MOST_HALVINGS = 30


class LogNormaliser(NamedTuple):
    """E log(1 + Σₖ exp ηₖ) of K − 1 Normal variables against a reference of zero, and its derivatives."""

    value: Tensor  # [..., N]
    probabilities: Tensor  # its derivative in the means [..., K − 1, N]
    curvature: Tensor  # twice its derivative in the covariance [..., K − 1, K − 1, N], positive semidefinite


def tilted_softmax(mean: Tensor, covariance: Tensor) -> LogNormaliser:
    """Return B = min over a of ½ a'Va + log(1 + Σₖ exp(μₖ + ½ Vₖₖ − (Va)ₖ)), an upper bound, and its derivatives.

    The best a is the softmax of that exponent. The bound holds for any a, and so do the derivatives returned. They are
    differentiable once more: the fixed point is by the implicit function theorem.

    Args:
        mean: μ [..., K − 1, N], float64.
        covariance: V [..., K − 1, K − 1, N].

    References:
        Knowles, Minka (2011), Non-conjugate variational message passing for multinomial and binary regression, sec. 5.
    """
    with torch.no_grad():
        tilt = _fixed_point(mean.detach(), covariance.detach())
    if has_derivatives(mean) or has_derivatives(covariance):
        tilt = _differentiable(tilt, mean, covariance)
    along, normaliser, p = _evaluated(tilt, mean, covariance)
    value = 0.5 * (tilt * along).sum(-2) + normaliser
    away = p - tilt
    curvature = torch.diag_embed(p.movedim(-2, -1)).movedim(-3, -1) - _outer(p) + _outer(away)
    return LogNormaliser(value, p, curvature)


def log_normaliser(logits: Tensor) -> Tensor:
    """Return log(1 + Σₖ exp ηₖ) [..., N] of logits [..., K − 1, N] against a reference of zero."""
    return (
        torch.cat([torch.zeros_like(logits[..., :1, :]), logits], dim=-2).logsumexp(-2)
        if logits.shape[-2]
        else (logits.sum(-2))
    )


def _evaluated(tilt: Tensor, mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return Va, the log normaliser of the tilted exponent, and its softmax."""
    along = (covariance * tilt.unsqueeze(-3)).sum(-2)
    exponent = mean + 0.5 * covariance.diagonal(dim1=-3, dim2=-2).movedim(-1, -2) - along
    normaliser = log_normaliser(exponent)
    return along, normaliser, (exponent - normaliser.unsqueeze(-2)).exp()


def _fixed_point(mean: Tensor, covariance: Tensor) -> Tensor:
    """Return a [..., K − 1, N]."""
    tilt = (mean - log_normaliser(mean).unsqueeze(-2)).exp()
    if not tilt.numel():
        return tilt
    variances = covariance.diagonal(dim1=-3, dim2=-2).movedim(-1, -2)
    for step in range(MOST_DAMPED):
        _, _, p = _evaluated(tilt, mean, covariance)
        change = p - tilt
        # On a GPU every look waits.
        if (tilt.device.type == "cpu" or step % 6 == 5) and not change.abs().max() > TOLERANCE:
            return p
        # The map's slope has eigenvalues from minus this sum to zero: this step contracts fastest.
        tilt = tilt + change * (2.0 / (2.0 + (p * variances).sum(-2, keepdim=True)))
    return _polished(tilt, mean, covariance)


def _polished(tilt: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """Return a after Newton's method on the rows that are away from the fixed point, where it comes nearer."""
    _, _, p = _evaluated(tilt, mean, covariance)
    away = (p - tilt).abs().amax(-2)
    rows = (away > TOLERANCE).nonzero(as_tuple=True)
    if not len(rows[0]):
        return tilt
    flat = tilt.movedim(-2, -1)
    own, mu, v = flat[rows].mT, mean.movedim(-2, -1)[rows].mT, covariance.movedim(-1, -3)[rows].movedim(0, -1)
    for _ in range(MOST_NEWTON):
        along, normaliser, p = _evaluated(own, mu, v)
        change = p - own
        if own.device.type == "cpu" and change.abs().amax() < TOLERANCE:
            break
        step = _solved(p, v, change)
        own = own + step * _sizes(own, step, 0.5 * (own * along).sum(-2) + normaliser, mu, v)
    flat[rows] = own.mT
    return flat.movedim(-1, -2)


def _sizes(tilt: Tensor, step: Tensor, value: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """Return the share [N] of each row's step by which its bound, which is convex in a, falls."""
    sizes, allowed = torch.ones_like(value), value + 1e-14 * (1.0 + value.abs())
    for _ in range(MOST_HALVINGS):
        moved = tilt + sizes * step
        along, normaliser, _ = _evaluated(moved, mean, covariance)
        fails = ~(0.5 * (moved * along).sum(-2) + normaliser <= allowed)
        if tilt.device.type == "cpu" and not bool(fails.any()):
            break
        sizes = torch.where(fails, 0.5 * sizes, sizes)
    return sizes


def _solved(p: Tensor, covariance: Tensor, right: Tensor) -> Tensor:
    """Return (I + JV)⁻¹ times a vector."""
    rows_first = covariance.movedim(-1, -3)
    by_row = p.movedim(-2, -1)
    jacobian = by_row.diag_embed() - by_row.unsqueeze(-1) * by_row.unsqueeze(-2)
    system = jacobian @ rows_first
    system.diagonal(dim1=-2, dim2=-1).add_(1.0)
    return torch.linalg.solve(system, right.movedim(-2, -1)).movedim(-1, -2)


def _differentiable(tilt: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """Return the fixed point with its derivatives: those of one more step of Newton's method from there."""
    _, _, p = _evaluated(tilt, mean, covariance)
    return tilt + _solved(p.detach(), covariance.detach(), p - tilt)


def _outer(vectors: Tensor) -> Tensor:
    """Return vv' [..., K − 1, K − 1, N]."""
    return vectors.unsqueeze(-2) * vectors.unsqueeze(-3)
