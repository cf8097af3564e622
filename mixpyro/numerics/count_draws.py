"""Draws of counts of any size: Poisson and binomial, float64."""

import torch
from torch import Tensor

# Mean beyond which a count is drawn from a Normal distribution of its mean and variance, and rounded. Its skewness, at
# most 3·10⁻⁵, is not seen in a sample of fewer than a billion. Beyond 4·10⁹ PyTorch's own draws overflow on a GPU, and
# beyond 9·10¹⁸ on a CPU.
MOST_EXACT = 1e9
# Trials beyond which a binomial of a mean up to `MOST_EXACT` is drawn as a Poisson; they differ by 10⁻⁶ at most.
MOST_TRIALS = 1e15


def poisson_draws(rate: Tensor) -> Tensor:
    """Draw Poisson counts.

    Args:
        rate: at least 0; it may be infinite.

    Returns:
        Whole numbers in the shape of ``rate``, at least 0, float64; ∞ for a rate of ∞, NaN for NaN.
    """
    rate = rate.double()
    is_small = rate <= MOST_EXACT
    exact = torch.poisson(torch.where(is_small, rate, 0.0))
    # Where the rate is infinite or no number, so is the mean, and nothing is added.
    deviation = torch.where(rate.isfinite(), rate.sqrt() * torch.randn_like(rate), 0.0)
    return torch.where(is_small, exact, (rate + deviation).round())


def binomial_draws(trials: Tensor, logit: Tensor) -> Tensor:
    """Draw binomial counts.

    Args:
        trials: n, at least 0.
        logit: log p / (1 − p). Both broadcast.

    Returns:
        Whole numbers in the broadcast shape, from 0 to n, float64; NaN where the logit is.
    """
    n, logit = torch.broadcast_tensors(trials.double(), logit.double())
    # Of the rarer outcome: its probability keeps its digits, and so does the rest of the trials.
    rarer = torch.sigmoid(-logit.abs().nan_to_num(0.0))
    mean = n * rarer
    is_small = mean <= MOST_EXACT
    by_poisson = is_small & (n > MOST_TRIALS)
    # Of whole trials, as PyTorch draws them.
    exact = torch.binomial(torch.where(is_small & ~by_poisson, n, 0.0), rarer)
    rare = torch.poisson(torch.where(by_poisson, mean, 0.0))
    # Not the root of n p (1 − p) at once, for the product may overflow.
    normal = (mean + mean.sqrt() * (1.0 - rarer).sqrt() * torch.randn_like(mean)).round()
    drawn = torch.where(is_small, exact + rare, normal).clamp_min(0.0).minimum(n)
    return torch.where(logit > 0, n - drawn, drawn) + 0.0 * logit.nan_to_num(torch.nan, 0.0, 0.0)
