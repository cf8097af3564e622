"""Damped Newton's method for a batch of functions of one or two parameters, which need not be concave."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

# Relative to the value of a function, which is a sum over rows. A smaller gain is rounding error.
SMALLEST_GAIN = 1e-12
# Length of a step in any parameter. They are logarithms: a factor of 20.
MOST_STEP = 3.0
# Halvings of a step, after which what it gains to first order is below rounding error.
MOST_HALVINGS = 30
# Curvature, relative to the largest of a function, that counts as none.
FLAT = 1e-10

Points = Float[Tensor, "B S"]


def maximised_few(
    function: Callable[[Points], Float[Tensor, " B"]], start: Points, low: Points, high: Points, *, n_steps: int = 10
) -> Points:
    """Return parameters at a maximum of each function within limits; no value falls.

    Along a direction in which a function is convex the step is uphill, as long as the curvature says.

    Args:
        function: B values of B points, each of its own point alone, differentiable twice.
        start: points to begin with, float64.
        low: lower limits.
        high: upper limits.
        n_steps: most steps, at least 1.

    References:
        Nocedal, Wright (2006), Numerical Optimization, section 3.4 (modified Newton).
    """
    point = start.detach().maximum(low).minimum(high)
    value = function(point).detach()
    for _ in range(n_steps):
        gradient, hessian = derivatives(function, point)
        step = uphill_step(gradient, hessian, ((point <= low) & (gradient < 0)) | ((point >= high) & (gradient > 0)))
        expected = 0.5 * (gradient * step).sum(-1)
        if not bool((expected > SMALLEST_GAIN * (1.0 + value.abs())).any()):
            break
        before, size = value, torch.ones_like(value)
        for _ in range(MOST_HALVINGS):
            reached = (point + size.unsqueeze(-1) * step).maximum(low).minimum(high)
            reached_value = function(reached).detach()
            worse = ~(reached_value >= before)
            if not bool((worse & (expected > SMALLEST_GAIN * (1.0 + before.abs()))).any()):
                break
            size = torch.where(worse, 0.5 * size, size)
        point = torch.where(worse.unsqueeze(-1), point, reached)
        value = torch.where(worse, before, reached_value)
        if not bool((value - before > SMALLEST_GAIN * (1.0 + before.abs())).any()):
            break
    return point


def derivatives(function: Callable[[Points], Tensor], point: Points) -> tuple[Points, Float[Tensor, "B S S"]]:
    """Return gradients and Hessians, zero of a function that overflows."""
    with torch.enable_grad():
        leaf = point.detach().requires_grad_()
        gradient = torch.autograd.grad(function(leaf).sum(), leaf, create_graph=True)[0]
        if not gradient.requires_grad:  # of a line
            return gradient.nan_to_num(0.0, 0.0, 0.0), gradient.new_zeros(*gradient.shape, gradient.shape[1])
        rows = [torch.autograd.grad(gradient[:, s].sum(), leaf, retain_graph=True)[0] for s in range(leaf.shape[1])]
    return gradient.detach().nan_to_num(0.0, 0.0, 0.0), torch.stack(rows, 1).detach().nan_to_num(0.0, 0.0, 0.0)


def uphill_step(gradient: Points, hessian: Float[Tensor, "B S S"], held: Tensor) -> Points:
    """Return Newton's steps, uphill along every principal direction; none of a parameter that is held at a limit."""
    free = (~held).to(gradient)
    gradient = gradient * free
    information = -hessian * free.unsqueeze(-1) * free.unsqueeze(-2)
    curvatures, directions = torch.linalg.eigh(0.5 * (information + information.mT))
    size = curvatures.abs()
    size = size.maximum(FLAT * size.amax(-1, keepdim=True)).clamp_min(torch.finfo(size.dtype).tiny)
    step = (directions @ ((directions.mT @ gradient.unsqueeze(-1)) / size.unsqueeze(-1))).squeeze(-1) * free
    longest = step.abs().amax(-1, keepdim=True)
    return step * (MOST_STEP / longest.clamp_min(MOST_STEP))
