"""Log likelihoods and moments of Normal outcomes of which only limits are known."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.special import log_ndtr

# Width of an interval, in units of the noise, below which it is its width times the density in its middle; the error is
# of the fourth order.
NARROW = 1e-3
# In units of the noise: an outcome that is farther away has a log probability whose square overflows.
FARTHEST = 1e150
LOG_ROOT_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class Moments(NamedTuple):
    """Of a standard Normal variable given its limits."""

    mean: Tensor
    lost_variance: Tensor  # 1 less its variance, at least 0


def log_probability(low: Tensor, high: Tensor) -> Tensor:
    """Compute the log probability that a standard Normal is between two limits, the log density where they meet.

    Args:
        low: lower limits, −∞ where there is none.
        high: upper limits, ∞ where there is none; at least ``low``, of the same shape, float64.

    Returns:
        In nats, in that shape, with two derivatives in the limits. 0 where there is none of either, −∞ where both are
        beyond 1e150 on one side.
    """
    is_far = (low > FARTHEST) | (high < -FARTHEST)
    below, above = low == -torch.inf, high == torch.inf
    is_narrow = (high - low <= NARROW) & ~below & ~above & ~is_far
    # Each case with arguments for which it is finite, so that derivatives of those not chosen are.
    a, b = torch.where(below | is_far, -1.0, low), torch.where(above | is_far, 1.0, high)
    a, b = torch.where(above & ~below, a, torch.minimum(a, b)), torch.where(below & ~above, b, torch.maximum(a, b))
    one_sided = torch.where(below, log_ndtr(b), log_ndtr(-a))
    by_both = torch.where(below & above, 0.0, one_sided)
    wide_a, wide_b = torch.where(below | above | is_narrow, -1.0, a), torch.where(below | above | is_narrow, 1.0, b)
    # In the tail on the left, where both keep their digits.
    flipped = wide_a + wide_b > 0
    nearer, farther = torch.where(flipped, -wide_a, wide_b), torch.where(flipped, -wide_b, wide_a)
    larger, smaller = log_ndtr(nearer), log_ndtr(farther)
    wide = larger + (-(smaller - larger).expm1()).log()
    narrow_a, narrow_b = torch.where(is_narrow, a, 0.0), torch.where(is_narrow, b, 0.0)
    middle, width = 0.5 * (narrow_a + narrow_b), narrow_b - narrow_a
    is_point = width == 0.0
    of_width = torch.where(is_point, 0.0, torch.where(is_point, 1.0, width).log())
    curved = (middle.square() - 1.0) * width.square() / 24.0
    narrow = of_width + curved - 0.5 * middle.square() - LOG_ROOT_TWO_PI
    found = torch.where(below | above, by_both, torch.where(is_narrow, narrow, wide))
    return torch.where(is_far, -torch.inf, found)


def moments(low: Tensor, high: Tensor) -> Moments:
    """Compute mean and variance of a standard Normal variable between two limits; Greene (2012), theorem 19.2.

    Args:
        low: as for :func:`log_probability`.
        high: as for :func:`log_probability`.
    """
    log_total = log_probability(low, high)
    is_narrow = high - low <= NARROW
    middle = torch.where(is_narrow, low, 0.0) + 0.5 * torch.where(is_narrow, high - low, 0.0)
    at_low, at_high = (_density_over(limit, log_total) for limit in (low, high))
    width = torch.where(is_narrow, high - low, 0.0)
    # Over a narrow interval the density is a line.
    mean = torch.where(is_narrow, middle * (1.0 - width.square() / 12.0), at_low[0] - at_high[0])
    lost = mean.square() + at_high[1] - at_low[1]
    return Moments(mean, torch.where(is_narrow, 1.0 - width.square() / 12.0, lost.clamp(0.0, 1.0)))


def _density_over(limit: Tensor, log_total: Tensor) -> tuple[Tensor, Tensor]:
    """Return the density at a limit over a probability, and the limit times that; 0 at infinity."""
    open_end = limit.isinf()
    finite = torch.where(open_end, 0.0, limit)
    ratio = torch.where(open_end, 0.0, (-0.5 * finite.square() - LOG_ROOT_TWO_PI - log_total).exp())
    return ratio, finite * ratio
