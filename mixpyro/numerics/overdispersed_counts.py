"""Log probabilities of negative binomial counts, precise near the Poisson limit and for large counts.

Var y = μ + α μ² with the mean μ and the dispersion α; Cameron, Trivedi (2013), Regression Analysis of Count Data,
section 3.3.1 (NB2).
"""

import torch
from torch import Tensor

from mixpyro.numerics.count_densities import LARGEST_LOG_RATIO, LARGEST_PREDICTOR, saturated_poisson


def saturated_beyond_poisson(count: Tensor, dispersion: Tensor) -> Tensor:
    """Compute the log probability of counts where their means are the counts, less that under a Poisson distribution.

    With r = 1 / α and the Poisson's own s(y) = y log y − y − log Γ(y + 1), it is s(r) − s(r + y) − log(1 + α y), which
    goes to 0 with α.

    Args:
        count: y, at least 0.
        dispersion: α, above 0. Both broadcast.

    Returns:
        In nats, in the broadcast shape, float64.
    """
    y, alpha = count.double(), dispersion.double()
    r = alpha.reciprocal()
    return saturated_poisson(r) - saturated_poisson(r + y) - (alpha * y).log1p()


def negative_binomial_half_deviance(count: Tensor, log_rate: Tensor, dispersion: Tensor) -> Tensor:
    """Compute half the deviance of negative binomial counts, at least 0.

    With t = log(μ / y) and the share s = α y / (1 + α y) it is (y + 1/α) (log(1 + s (eᵗ − 1)) − s t), and for y = 0
    log(1 + α μ) / α. As α goes to 0 it is the Poisson's, y (eᵗ − 1 − t).

    Args:
        count: y, at least 0.
        log_rate: log μ.
        dispersion: α, above 0. All three broadcast.

    Returns:
        In nats, in the broadcast shape, float64.
    """
    y, alpha = count.double(), dispersion.double()
    is_zero = (y == 0).double()
    unit = y + is_zero
    t = (log_rate.double() - unit.log()).clamp(-LARGEST_PREDICTOR, LARGEST_PREDICTOR)
    bounded = t.clamp_max(LARGEST_LOG_RATIO)
    rest = (1.0 + alpha * y).reciprocal()
    share = alpha * unit * rest
    # Multiplied by masks of the counts: to choose between two tensors takes longer.
    change = share * ((1.0 - is_zero) * bounded.expm1() + is_zero * bounded.exp())
    # Where 1 + change is a small difference of both, it is the sum of two numbers above 0.
    whole = torch.where(change > -0.5, change.clamp_min(-0.5).log1p(), (rest + share * bounded.exp()).log())
    slope = (1.0 - is_zero) * share * t
    return (y + alpha.reciprocal()) * (whole + (t - LARGEST_LOG_RATIO).clamp_min(0.0) - slope)
