"""Log probabilities of counts, without the cancellation of y log(rate), the rate and log y!.

At a count of 10⁸ these three terms are near 2·10⁹ and their sum is near −10: float32 has no correct digit of it, and
from 10¹² on float64 has few. Here a log probability is the one under the saturated model, whose mean is the count, less
half the deviance. Neither part has large terms that cancel. All functions compute and return float64.

References:
    Loader (2000), Fast and accurate computation of binomial probabilities;
    McCullagh, Nelder (1989), Generalized Linear Models, section 2.3 and table 2.1.
"""

import math

import torch
from torch import Tensor

from mixpyro.arguments import has_derivatives

# Log ratio of a rate to a count from which its exponential goes on as a line, so that log probabilities and their
# derivatives stay finite where a component is impossible, and two such components can be told apart.
LARGEST_LOG_RATIO = 600.0
# How far the line goes on.
LARGEST_EXCESS = 1e30
# Largest linear predictor, in absolute value; an infinite one would make a product with zero no number.
LARGEST_PREDICTOR = 1e300
# Counts from which Stirling's series, with the terms below, is exact to the last digit.
LARGE_COUNT = 16.0


def saturated_poisson(count: Tensor) -> Tensor:
    """Compute the log probability of counts under Poisson distributions whose rates are the counts.

    It is y log y − y − log y!, and 0 for y = 0: minus ½ log 2πy minus the remainder of Stirling's formula.

    Args:
        count: y, at least 0, of any floating dtype.

    Returns:
        Log probabilities in nats, in the shape of ``count``, float64.

    References:
        Loader (2000), eq. 3 and table 1; Abramowitz, Stegun (1972), eq. 6.1.41.
    """
    y = count.double()
    small = y.clamp_max(LARGE_COUNT)
    by_gamma = torch.xlogy(small, small) - small - torch.lgamma(small + 1.0)
    return by_gamma if _are_small(y) else torch.where(y < LARGE_COUNT, by_gamma, _by_series(y))


def _are_small(y: Tensor) -> bool:
    """Return whether no count needs the series, which takes half of the time; False where to look would be to wait."""
    if not y.is_cpu or not y.numel() or has_derivatives(y):
        return False
    return bool(y.amax() < LARGE_COUNT)


def _by_series(y: Tensor) -> Tensor:
    """Return the log probability of large counts, by Stirling's series."""
    large = y.clamp_min(LARGE_COUNT)
    inverse, squared = large.reciprocal(), large.reciprocal().square()
    remainder = inverse * (
        1.0 / 12.0 - squared * (1.0 / 360.0 - squared * (1.0 / 1260.0 - squared * (1.0 / 1680.0 - squared / 1188.0)))
    )
    return -0.5 * (2.0 * math.pi * large).log() - remainder


def saturated_binomial(count: Tensor, trials: Tensor) -> Tensor:
    """Compute the log probability of counts under binomial distributions whose means are the counts.

    Args:
        count: y, from 0 to the number of trials.
        trials: n, above 0, of a shape that broadcasts with that of ``count``.

    Returns:
        Log probabilities in nats, in the broadcast shape, float64.
    """
    y, n = count.double(), trials.double()
    return saturated_poisson(y) + saturated_poisson(n - y) - saturated_poisson(n)


def poisson_half_deviance(count: Tensor, log_rate: Tensor) -> Tensor:
    """Compute half the deviance of Poisson counts, y log(y / rate) − y + rate, at least 0.

    With t = log(rate / y) it is y (eᵗ − 1 − t), whose derivative in t is y (eᵗ − 1) = rate − y. Both keep their digits
    where the rate is near the count.

    Args:
        count: y, at least 0.
        log_rate: logarithm of the rate. Both broadcast.

    Returns:
        In nats, in the broadcast shape, float64.
    """
    y = count.double()
    is_zero = (y == 0).double()
    unit = y + is_zero
    log_ratio = log_rate.double() - unit.log()
    bounded = log_ratio.clamp(-LARGEST_PREDICTOR, LARGEST_LOG_RATIO)
    beyond = (log_ratio - LARGEST_LOG_RATIO).clamp(0.0, LARGEST_EXCESS) * math.exp(LARGEST_LOG_RATIO)
    # Multiplied by masks of the counts: to choose between two tensors takes longer.
    return y * (bounded.expm1() - bounded) + is_zero * bounded.exp() + unit * beyond


def binomial_half_deviance(count: Tensor, trials: Tensor, logit: Tensor) -> Tensor:
    """Compute half the deviance of binomial counts, y log(y / np) + (n − y) log((n − y) / n(1 − p)), at least 0.

    Let a ≤ ½ be the share of the rarer outcome among the trials, and d the logit of that outcome less the logit of a.
    Half the deviance is then n (log(1 + a (eᵈ − 1)) − a d), which keeps its digits: what cancels is small. Where all
    trials have one outcome it is n log(1 + eᵈ), d the logit of the other.

    Args:
        count: y, from 0 to the number of trials.
        trials: n, above 0.
        logit: log p / (1 − p). All three broadcast.

    Returns:
        In nats, in the broadcast shape, float64.
    """
    y, n = count.double(), trials.double()
    sign = 1.0 - 2.0 * (y > n - y).double()
    rarer = y.minimum(n - y)
    is_never = (rarer == 0).double()
    share = rarer / n
    saturated = (rarer + is_never).log() - (n - rarer - is_never * (n - 1.0)).log()
    d = sign * logit.double().clamp(-LARGEST_PREDICTOR, LARGEST_PREDICTOR) - saturated
    bounded = d.clamp_max(LARGEST_LOG_RATIO)
    # Multiplied by masks of the counts: to choose between two tensors takes longer.
    change = share * bounded.expm1() + is_never * bounded.exp()
    return n * (change.log1p() + (d - LARGEST_LOG_RATIO).clamp_min(0.0) - share * d)
