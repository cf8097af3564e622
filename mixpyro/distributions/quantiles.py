"""Cumulative distribution functions of the experts' distributions."""

import functools
import math

import torch
from pyro.distributions import Bernoulli, Binomial, Delta, Independent, MultivariateStudentT, Normal, Poisson, StudentT
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from mixpyro.distributions.elementwise import Elementwise

# Variance of a count beyond which the incomplete gamma and beta functions have few digits. Beyond it the first three
# moments give the distribution to 10⁻⁸.
MOST_EXACT = 1e8


@functools.singledispatch
def cumulative(distribution: TorchDistributionMixin, y: Tensor) -> Tensor:
    """Compute P(Y ≤ y) of each output.

    Other distributions can be added with ``cumulative.register``, as by :func:`functools.singledispatch`.

    Args:
        distribution: batch shape [N, K] and event shape [P]. Of a multivariate distribution the marginals are used.
        y: values [N, 1, P], or any shape that broadcasts with [N, K, P].

    Returns:
        Probabilities in the broadcast shape, float64.

    Raises:
        TypeError: if the values of the distribution have no order, or its function is not registered.
    """
    raise TypeError(
        f"`experts` must have outputs with a known cumulative distribution; got {type(distribution).__name__}. "
        "Register one with mixpyro.distributions.quantiles.cumulative."
    )


@cumulative.register
def _(distribution: Independent, y: Tensor) -> Tensor:
    return cumulative(distribution.base_dist, y)


@cumulative.register
def _(distribution: Normal, y: Tensor) -> Tensor:
    return torch.special.ndtr((y - distribution.loc.double()) / distribution.scale.double())


@cumulative.register
def _(distribution: StudentT, y: Tensor) -> Tensor:
    return student_t(distribution.df, distribution.loc, distribution.scale, y)


@cumulative.register
def _(distribution: MultivariateStudentT, y: Tensor) -> Tensor:
    scale = distribution.scale_tril.square().sum(-1).sqrt()
    return student_t(distribution.df.unsqueeze(-1), distribution.loc, scale, y)


@cumulative.register
def _(distribution: Poisson, y: Tensor) -> Tensor:
    # Without derivatives: forward mode has none of this function, and quantiles of counts do not change with the rate.
    rate, count = torch.broadcast_tensors(distribution.rate.double().detach(), y.detach().floor())
    # P(Y ≤ n) is the regularised upper incomplete gamma function of n + 1 and the rate.
    exact = torch.special.gammaincc(count.clamp(0.0, 2.0 * MOST_EXACT) + 1.0, rate.clamp_max(MOST_EXACT))
    in_limit = _in_limit(count, rate, rate.sqrt(), rate.rsqrt())
    return torch.where(count < 0, 0.0, torch.where(rate <= MOST_EXACT, exact, in_limit))


@cumulative.register
def _(distribution: Binomial, y: Tensor) -> Tensor:
    count, trials, logit = torch.broadcast_tensors(
        y.floor(), distribution.total_count.double(), distribution.logits.double()
    )
    success, failure = logit.sigmoid(), (-logit).sigmoid()
    # P(Y ≤ n) is the regularised incomplete beta function of (trials − n, n + 1) at the probability of a failure.
    few, left = count.clamp_min(0.0) + 1.0, (trials - count).clamp_min(1.0)
    exact = torch.where(
        success < failure, by_scipy("betaincc", few, left, success), by_scipy("betainc", left, few, failure)
    )
    # Not the root of n p (1 − p) at once, for the product may overflow.
    deviation = (trials * success).sqrt() * failure.sqrt()
    in_limit = _in_limit(count, trials * success, deviation, (failure - success) / deviation)
    inside = torch.where(deviation.square() <= MOST_EXACT, exact, in_limit)
    return torch.where(count < 0, 0.0, torch.where(count >= trials, 1.0, inside))


@cumulative.register
def _(distribution: Bernoulli, y: Tensor) -> Tensor:
    return torch.where(y < 0, 0.0, torch.where(y < 1, 1.0 - distribution.probs.double(), 1.0))


@cumulative.register
def _(distribution: Delta, y: Tensor) -> Tensor:
    return (y >= distribution.v.double()).double()


def _in_limit(count: Tensor, mean: Tensor, deviation: Tensor, skewness: Tensor) -> Tensor:
    """Compute P(Y ≤ n) of a large count by its first three moments, 0 for an infinite mean.

    The error is of the order of the inverse variance; Kolassa (2006), Series Approximation Methods in Statistics, eq.
    3.13 (Edgeworth's series with a correction for continuity).
    """
    z = (count + 0.5 - mean) / deviation
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2.0 * math.pi)
    z = torch.where(mean.isinf(), -torch.inf, z)
    correction = torch.where(z.isfinite(), skewness * (z.square() - 1.0) * density / 6.0, 0.0)
    return (torch.special.ndtr(z) - correction.nan_to_num(0.0)).clamp(0.0, 1.0)


def student_t(df: Tensor, loc: Tensor, scale: Tensor, y: Tensor) -> Tensor:
    """Compute P(Y ≤ y) of Student-t distributions.

    Args:
        df: degrees of freedom, above 0.
        loc: location, in units of y.
        scale: scale, in units of y, above 0.
        y: values. All four broadcast.

    Returns:
        Probabilities in the broadcast shape, float64.
    """
    standardised = (y - loc.double()) / scale.double()
    return by_scipy("stdtr", *torch.broadcast_tensors(df.double(), standardised))


def by_scipy(function: str, *arguments: Tensor) -> Tensor:
    """Call a function of ``scipy.special`` on tensors.

    Args:
        function: its name.
        *arguments: tensors of the same shape, on any device. Of a Student-t the last one has derivatives.

    Returns:
        The values, float64, on the device of the first argument.
    """
    return Elementwise.apply(function, *arguments)  # type: ignore[no-untyped-call]


def shares_below(weights: Tensor, distribution: TorchDistributionMixin, y: Tensor) -> Tensor:
    """Compute Σₖ πₖ P(Y ≤ y | k) of each output, float64.

    Args:
        weights: π [N, K].
        distribution: batch shape [N, K] and event shape [P].
        y: [..., N, P].
    """
    components = cumulative(distribution, y.unsqueeze(-2))
    return (weights.double().unsqueeze(-1) * components).sum(-2)
