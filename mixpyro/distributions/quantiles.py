"""Cumulative distribution functions of the experts' distributions, and quantiles of their mixtures."""

import functools
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
# Doublings of a bracket. After a few more its width overflows a float64.
N_DOUBLINGS = 1000


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
    return torch.where(count < 0, 0.0, torch.special.gammaincc(count.clamp_min(0.0) + 1.0, rate))


@cumulative.register
def _(distribution: Binomial, y: Tensor) -> Tensor:
    count, trials, probability = torch.broadcast_tensors(
        y.floor(), distribution.total_count.double(), distribution.probs.double()
    )
    # P(Y ≤ n) is the regularised incomplete beta function of (trials − n, n + 1) at the probability of a failure.
    left = (trials - count).clamp_min(1.0)
    inside = by_scipy("betainc", left, count.clamp_min(0.0) + 1.0, 1.0 - probability)
    return torch.where(count < 0, 0.0, torch.where(count >= trials, 1.0, inside))


@cumulative.register
def _(distribution: Bernoulli, y: Tensor) -> Tensor:
    return torch.where(y < 0, 0.0, torch.where(y < 1, 1.0 - distribution.probs.double(), 1.0))


@cumulative.register
def _(distribution: Delta, y: Tensor) -> Tensor:
    return (y >= distribution.v.double()).double()


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
    reached, level = share(quantiles), torch.broadcast_to(wanted, quantiles.shape)
    return quantiles + ((level - level.detach()) - (reached - reached.detach())) / density


def _bisected(
    distribution: TorchDistributionMixin, reached: Callable[[Tensor], Tensor], n_probabilities: int
) -> Tensor:
    """Find the least values [Q, N, P] at which the probabilities are reached."""
    low, high = _bracket(distribution, reached, n_probabilities)
    for _ in range(N_HALVINGS):
        middle = low + 0.5 * (high - low)
        above = reached(middle)
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return torch.where((high.abs() < SMALLEST) & reached(torch.zeros_like(high)), 0.0, high)


def _bracket(
    distribution: TorchDistributionMixin, reached: Callable[[Tensor], Tensor], n_probabilities: int
) -> tuple[Tensor, Tensor]:
    """Find values [Q, N, P] below and above the quantiles, starting from the components' means."""
    mean = (
        distribution.mean.double()
        .nan_to_num(0.0, 0.0, 0.0)
        .expand(*distribution.batch_shape, *distribution.event_shape)
    )
    centre, width = mean.mean(-2), 1.0 + (mean.amax(-2) - mean.amin(-2))
    low, high = (centre.repeat(n_probabilities, 1, 1) for _ in range(2))
    for _ in range(N_DOUBLINGS):
        too_high, too_low = reached(low), ~reached(high)
        # Inside vmap the values cannot be read; to go on changes nothing.
        if not is_batched(too_high) and not bool((too_high | too_low).any()):
            break
        low, high = torch.where(too_high, low - width, low), torch.where(too_low, high + width, high)
        width = 2.0 * width
    return low, high
