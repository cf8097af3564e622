"""Cumulative distribution functions of experts, and quantiles of their mixture."""

import functools
from collections.abc import Callable

import torch
from pyro.distributions import Bernoulli, Binomial, Delta, Independent, MultivariateStudentT, Normal, Poisson, StudentT
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

# Halvings of a bracket: enough to come from any width to the last digit of a float64.
N_HALVINGS = 120
SMALLEST = 1e-30


@functools.singledispatch
def cumulative(distribution: TorchDistributionMixin, y: Tensor) -> Tensor:
    """P(Y ≤ y) of each output, in the shape that ``distribution`` and y have together, float64.

    Args:
        distribution: batch shape [N, K] and event shape [P]; the outputs' own distributions are looked at.
        y: [N, 1, P] or any shape that broadcasts.

    Raises:
        TypeError: for a distribution whose values have no order, or whose function is not known here.
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
    rate, count = torch.broadcast_tensors(distribution.rate.double(), y.floor())
    # P(Y ≤ n) is the upper incomplete gamma function of n + 1; below zero there is nothing.
    return torch.where(count < 0, 0.0, torch.special.gammaincc(count.clamp_min(0.0) + 1.0, rate))


@cumulative.register
def _(distribution: Binomial, y: Tensor) -> Tensor:
    count, trials, probability = torch.broadcast_tensors(
        y.floor(), distribution.total_count.double(), distribution.probs.double()
    )
    # P(Y ≤ n) is the incomplete beta function of (trials − n, n + 1) at the probability of a failure.
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
    """P(Y ≤ y) of a Student-t."""
    standardised = (y - loc.double()) / scale.double()
    return by_scipy("stdtr", *torch.broadcast_tensors(df.double(), standardised))


def by_scipy(function: str, *arguments: Tensor) -> Tensor:
    """A function of ``scipy.special`` on tensors, wherever they are."""
    from scipy import special  # Here, as it takes long to import.

    result = getattr(special, function)(*(argument.detach().cpu().numpy() for argument in arguments))
    return torch.as_tensor(result, dtype=torch.float64, device=arguments[0].device)


def mixture_quantiles(weights: Tensor, distribution: TorchDistributionMixin, probabilities: Tensor) -> Tensor:
    """The least y with Σₖ πₖ P(Y ≤ y | k) at least each of the probabilities [Q], [Q, N, P], by bisection.

    Args:
        weights: π [N, K].
        distribution: of every component, batch shape [N, K] and event shape [P].
        probabilities: [Q], in (0, 1).
    """
    wanted = probabilities.double().reshape(-1, 1, 1)

    def reached(y: Tensor) -> Tensor:
        components = cumulative(distribution, y.unsqueeze(-2))
        return (weights.double().unsqueeze(-1) * components).sum(-2) >= wanted

    low, high = _bracket(distribution, reached, len(wanted))
    for _ in range(N_HALVINGS):
        middle = low + 0.5 * (high - low)
        above = reached(middle)
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    # A jump at zero is never met by halving, only come near to.
    return torch.where((high.abs() < SMALLEST) & reached(torch.zeros_like(high)), 0.0, high)


def _bracket(
    distribution: TorchDistributionMixin, reached: Callable[[Tensor], Tensor], n_probabilities: int
) -> tuple[Tensor, Tensor]:
    """Values [Q, N, P] on either side of the quantiles, from the components' means outwards."""
    mean = (
        distribution.mean.double()
        .nan_to_num(0.0, 0.0, 0.0)
        .expand(*distribution.batch_shape, *distribution.event_shape)
    )
    centre, width = mean.mean(-2), 1.0 + (mean.amax(-2) - mean.amin(-2))
    low, high = (centre.repeat(n_probabilities, 1, 1) for _ in range(2))
    for _ in range(1000):
        too_high, too_low = reached(low), ~reached(high)
        if not bool((too_high | too_low).any()):
            break
        low, high = torch.where(too_high, low - width, low), torch.where(too_low, high + width, high)
        width = 2.0 * width
    return low, high
