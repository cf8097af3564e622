"""Quantiles of a mixture's outputs by bisection alone, which transforms of ``torch.func`` go through."""

from collections.abc import Callable

import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from mixpyro.arguments import is_batched
from mixpyro.distributions.quantiles import shares_below

# Halvings of a bracket. With fewer, a wide bracket is not narrowed to the last digit of a float64.
N_HALVINGS = 120
# Units of y. A quantile nearer to zero than this may be a jump at zero, which halving approaches but never reaches.
SMALLEST = 1e-30
# Doublings of a bracket: with so many its width overflows a float64.
N_DOUBLINGS = 1030


def bisected(weights: Tensor, distribution: TorchDistributionMixin, wanted: Tensor) -> Tensor:
    """Find the least values at which the probabilities are reached.

    Args:
        weights: π [N, K], whose rows sum to 1.
        distribution: of the components, batch shape [N, K] and event shape [P].
        wanted: probabilities [Q], above 0 and below 1, float64.

    Returns:
        Quantiles [Q, N, P], float64, infinite where components with an infinite mean have the weight.
    """

    def reached(y: Tensor) -> Tensor:
        return shares_below(weights, distribution, y) >= wanted.reshape(-1, 1, 1)

    largest = torch.finfo(torch.float64).max
    # Where components with an infinite mean have more weight than a probability leaves, so is the quantile.
    shape = (len(wanted), *distribution.batch_shape[:-1], *distribution.event_shape)
    is_finite = reached(torch.full(shape, largest, dtype=torch.float64, device=distribution.mean.device))
    low, high = _bracket(distribution, reached, is_finite)
    for _ in range(N_HALVINGS):
        middle = low + 0.5 * (high - low)
        above = reached(middle)
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    quantiles = torch.where((high.abs() < SMALLEST) & reached(torch.zeros_like(high)), 0.0, high)
    return torch.where(is_finite, quantiles, torch.inf)


def _bracket(
    distribution: TorchDistributionMixin, reached: Callable[[Tensor], Tensor], is_finite: Tensor
) -> tuple[Tensor, Tensor]:
    """Find values [Q, N, P] below and above the quantiles, starting from the components' means."""
    mean = (
        distribution.mean.double()
        .nan_to_num(0.0, 0.0, 0.0)
        .expand(*distribution.batch_shape, *distribution.event_shape)
    )
    # Divided first, for the sum may overflow.
    centre, width = (mean / mean.shape[-2]).sum(-2), 1.0 + (mean.amax(-2) - mean.amin(-2))
    low, high = (centre.repeat(len(is_finite), 1, 1) for _ in range(2))
    largest = torch.finfo(low.dtype).max
    for _ in range(N_DOUBLINGS):
        too_high, too_low = reached(low), is_finite & ~reached(high)
        # Inside vmap the values cannot be read; to go on changes nothing.
        if not is_batched(too_high) and not bool((too_high | too_low).any()):
            break
        low = torch.where(too_high, low - width, low).clamp_min(-largest)
        high = torch.where(too_low, high + width, high).clamp_max(largest)
        width = 2.0 * width
    return low, high
