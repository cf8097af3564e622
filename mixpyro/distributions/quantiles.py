"""Cumulative distribution functions of the experts' distributions, and quantiles of their mixtures."""

import functools
import math
from collections.abc import Callable

import torch
from pyro.distributions import Bernoulli, Binomial, Delta, Independent, MultivariateStudentT, Normal, Poisson, StudentT
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from mixpyro.arguments import has_derivatives, is_batched
from mixpyro.distributions.elementwise import Elementwise

# Halvings of a bracket. With fewer, a wide bracket is not narrowed to the last digit of a float64.
N_HALVINGS = 120
# Units of y. A quantile nearer to zero than this may be a jump at zero, which halving approaches but never reaches.
SMALLEST = 1e-30
# Doublings of a bracket: with so many its width overflows a float64.
N_DOUBLINGS = 1030
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


def mixture_quantiles(
    weights: Tensor, distribution: TorchDistributionMixin, probabilities: Tensor, *, has_density: bool = True
) -> Tensor:
    """Compute quantiles of the outputs of a mixture by bisection, with their first derivatives.

    At the quantile Σₖ πₖ Fₖ(y) = p, so its derivative is minus that of the left side over the density. The quantiles of
    a discrete distribution are constant but for jumps.

    Args:
        weights: π [N, K], whose rows sum to 1.
        distribution: of the components, batch shape [N, K] and event shape [P], known to :func:`cumulative`.
        probabilities: p [Q], above 0 and below 1.
        has_density: whether the components have densities rather than probabilities.

    Returns:
        For each p the least y with Σₖ πₖ P(Y ≤ y | k) ≥ p [Q, N, P], float64, in units of y.

    Raises:
        TypeError: if the distribution is not known to :func:`cumulative`.
    """
    if not (is_batched(probabilities) or bool(((probabilities > 0) & (probabilities < 1)).all())):
        raise ValueError(f"`probabilities` must be above 0 and below 1; got {probabilities.tolist()}.")
    wanted = probabilities.double().reshape(-1, 1, 1)

    def share(y: Tensor) -> Tensor:
        components = cumulative(distribution, y.unsqueeze(-2))
        return (weights.double().unsqueeze(-1) * components).sum(-2)

    with torch.no_grad():
        quantiles = _bisected(distribution, lambda y: share(y) >= wanted, len(wanted)).detach()
    if not has_density or not (torch.is_grad_enabled() or has_derivatives()):
        return quantiles
    # Newton's step from the solution: of length zero, with the derivatives of the solution.
    derivative = torch.func.vjp(share, quantiles)[1]
    density = derivative(torch.ones_like(quantiles))[0].detach()
    # No derivative where there is no density: between the jumps of a discrete distribution, and at infinity.
    density = torch.where(density > 0, density, torch.inf)
    reached, level = share(quantiles), torch.broadcast_to(wanted, quantiles.shape)
    return quantiles + ((level - level.detach()) - (reached - reached.detach())) / density


def _bisected(
    distribution: TorchDistributionMixin, reached: Callable[[Tensor], Tensor], n_probabilities: int
) -> Tensor:
    """Find the least values [Q, N, P] at which the probabilities are reached."""
    largest = torch.finfo(torch.float64).max
    # Where components with an infinite mean have more weight than a probability leaves, so is the quantile.
    shape = (n_probabilities, *distribution.batch_shape[:-1], *distribution.event_shape)
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
