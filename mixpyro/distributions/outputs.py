"""Each output of a distribution by itself, and guesses of its quantiles."""

import functools

import torch
from pyro.distributions import Bernoulli, Binomial, Delta, Independent, MultivariateStudentT, Normal, Poisson, StudentT
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from mixpyro.distributions.quantiles import by_scipy

# Relative error of a quantile in closed form; guesses are that far below and above it.
CLOSED_FORM_ERROR = 2.0**-49
# Standard deviations from a normal distribution's quantile to the guesses below and above, for other families.
NORMAL_ERROR = 0.5
# Degrees of freedom from which on a Student-t is nearly a transformed normal.
LEAST_DF = 2.0
# Units of y; a guess is no further out, for the next steps to be finite.
FURTHEST = 1e300


@functools.singledispatch
def outputs_of_rows(distribution: TorchDistributionMixin, rows: Tensor) -> TorchDistributionMixin | None:
    """Return the distributions of single outputs of some rows; None for a family that is not registered.

    Other families can be added with ``outputs_of_rows.register``: their quantiles then are found faster.

    Args:
        distribution: batch shape [N, K] and event shape [P].
        rows: numbers of rows [m].

    Returns:
        Batch shape [m, K] and event shape [P], known to :func:`mixpyro.distributions.quantiles.cumulative`.
    """
    return None


@functools.singledispatch
def guessed_quantiles(distribution: TorchDistributionMixin, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Guess values below and above the quantiles of each output: of a normal with this mean and variance.

    Args:
        distribution: batch shape [N, K] and event shape [P].
        probabilities: that broadcast with [N, K, P], float64.

    Returns:
        In units of y, in the broadcast shape, float64. NaN where there is no guess.
    """
    deviation = distribution.variance.double().sqrt()
    centre = distribution.mean.double() + deviation * torch.special.ndtri(probabilities)
    return centre - NORMAL_ERROR * deviation, centre + NORMAL_ERROR * deviation


@functools.singledispatch
def nearly_cumulative(distribution: TorchDistributionMixin, y: Tensor) -> Tensor | None:
    """Return about P(Y ≤ y) of each output where a formula takes a fraction of the exact one's time, else None.

    Args:
        distribution: batch shape [N, K] and event shape [P].
        y: values [N, 1, P].

    References:
        Wallace (1959), Bounds on normal approximations to Student's and the chi-square distributions.
    """
    return None


@functools.singledispatch
def are_whole(distribution: TorchDistributionMixin) -> list[bool]:
    """Return whether the values of each output are known to be whole numbers [P].

    Args:
        distribution: event shape [P].
    """
    return [bool(distribution.support.is_discrete)] * distribution.event_shape[0]


@outputs_of_rows.register
def _(distribution: Independent, rows: Tensor) -> TorchDistributionMixin | None:
    selected = outputs_of_rows(distribution.base_dist, rows)
    return None if selected is None else selected.to_event(distribution.reinterpreted_batch_ndims)


@outputs_of_rows.register
def _(distribution: Normal, rows: Tensor) -> Normal:
    return Normal(distribution.loc[rows], distribution.scale[rows], validate_args=False)


@outputs_of_rows.register
def _(distribution: StudentT, rows: Tensor) -> StudentT:
    return StudentT(distribution.df[rows], distribution.loc[rows], distribution.scale[rows], validate_args=False)


@outputs_of_rows.register
def _(distribution: MultivariateStudentT, rows: Tensor) -> TorchDistributionMixin:
    scale = distribution.scale_tril[rows].square().sum(-1).sqrt()
    df = distribution.df.expand(distribution.batch_shape)[rows].unsqueeze(-1)
    return StudentT(df, distribution.loc[rows], scale, validate_args=False).to_event(1)


@outputs_of_rows.register
def _(distribution: Poisson, rows: Tensor) -> Poisson:
    # The rate in float64, as the distribution of precise counts has it.
    return Poisson(distribution.rate[rows].double(), validate_args=False)


@outputs_of_rows.register
def _(distribution: Binomial, rows: Tensor) -> Binomial:
    trials = distribution.total_count.expand(distribution.logits.shape)
    return Binomial(trials[rows], logits=distribution.logits[rows], validate_args=False)


@outputs_of_rows.register
def _(distribution: Bernoulli, rows: Tensor) -> Bernoulli:
    return Bernoulli(distribution.probs[rows], validate_args=False)


@outputs_of_rows.register
def _(distribution: Delta, rows: Tensor) -> Delta:
    return Delta(distribution.v[rows], event_dim=distribution.event_dim)


@nearly_cumulative.register
def _(distribution: Independent, y: Tensor) -> Tensor | None:
    return nearly_cumulative(distribution.base_dist, y)


@nearly_cumulative.register
def _(distribution: StudentT, y: Tensor) -> Tensor:
    df, standardised = distribution.df.double(), (y - distribution.loc.double()) / distribution.scale.double()
    distance = (df * torch.log1p(standardised.square() / df)).sqrt() * (8.0 * df + 1.0) / (8.0 * df + 3.0)
    return torch.special.ndtr(distance.copysign(standardised))


@guessed_quantiles.register
def _(distribution: Independent, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    return guessed_quantiles(distribution.base_dist, probabilities)


@guessed_quantiles.register
def _(distribution: Normal, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    return _around(distribution.loc.double(), distribution.scale.double() * torch.special.ndtri(probabilities))


@guessed_quantiles.register
def _(distribution: StudentT, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    df = distribution.df.double()
    if distribution.batch_shape[1] > 1 and bool((df >= LEAST_DF).all()):
        # Of many components the least and the greatest only bracket the quantile; SciPy's takes ten times as long.
        normal = torch.special.ndtri(probabilities)
        squared = (normal * (8.0 * df + 3.0) / (8.0 * df + 1.0)).square()
        standardised = normal.sign() * (df * torch.expm1(squared / df)).sqrt()
    else:
        # In most models all rows have the same degrees of freedom.
        df = df[:1] if bool((df == df[:1]).all()) else df
        standardised = by_scipy("stdtrit", *torch.broadcast_tensors(df, probabilities)).clamp(-FURTHEST, FURTHEST)
    return _around(distribution.loc.double(), distribution.scale.double() * standardised)


def _around(location: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of both, less and more its rounding error."""
    error = CLOSED_FORM_ERROR * (location.abs() + distance.abs())
    return location + distance - error, location + distance + error
