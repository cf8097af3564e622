"""Poisson counts of which the zeros are left out."""

from collections.abc import Sequence

import torch
from pyro.distributions import Poisson, TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from mixpyro.distributions.checked_values import checked_as
from mixpyro.distributions.outputs import outputs_of_rows
from mixpyro.distributions.quantiles import MOST_EXACT, cumulative
from mixpyro.numerics.count_densities import poisson_half_deviance, saturated_poisson
from mixpyro.numerics.count_draws import poisson_draws

# Logarithm of a rate below which log(1 − exp(−rate)) is the logarithm less half the rate, to the last digit.
SMALL_LOG_RATE = -20.0


class ZeroTruncatedPoisson(TorchDistribution):
    """Counts from 1 on, Poisson but for the zeros, given by the logarithm of the Poisson's rate μ.

    Args:
        log_rate: log μ, of any shape.
        dtype: of results; that of ``log_rate`` by default.
        validate_args: whether to check the arguments and values; by default as Pyro's own validation is set.
    """

    arg_constraints = {"log_rate": constraints.real}  # noqa: RUF012 (as in torch)
    support = constraints.nonnegative_integer

    def __init__(
        self, log_rate: Tensor, *, dtype: torch.dtype | None = None, validate_args: bool | None = None
    ) -> None:
        self.log_rate, self.dtype = log_rate.double(), dtype or log_rate.dtype
        super().__init__(self.log_rate.shape, validate_args=validate_args)

    def expand(
        self, batch_shape: Size | Sequence[int], _instance: TorchDistribution | None = None
    ) -> "ZeroTruncatedPoisson":
        """Expand the batch shape.

        Args:
            batch_shape: the new shape.
            _instance: not used.

        Returns:
            A new distribution that shares the parameters of this one.
        """
        log_rate = self.log_rate.expand(Size(batch_shape))
        return checked_as(self, ZeroTruncatedPoisson(log_rate, dtype=self.dtype, validate_args=False))

    @property
    def mean(self) -> Tensor:
        """μ / (1 − exp(−μ)), in the dtype of results."""
        return mean_above_zero(self.log_rate).to(self.dtype)

    @property
    def variance(self) -> Tensor:
        """m (1 + μ − m) with the mean m, in the dtype of results."""
        mean = mean_above_zero(self.log_rate)
        return (mean * (1.0 + self.log_rate.exp() - mean)).to(self.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute the log probability, −∞ of zeros.

        Args:
            value: counts of any shape that broadcasts with the batch shape.

        Returns:
            Log probabilities in the broadcast shape, in nats.
        """
        if self._validate_args:
            self._validate_sample(value)
        return (saturated_poisson(value) + beyond_saturated(value, self.log_rate)).to(self.dtype)

    @torch.no_grad()
    def sample(self, sample_shape: Size | Sequence[int] = Size()) -> Tensor:  # noqa: B008 (as in torch)
        """Draw counts: the first event of a process that has one, and those after it.

        Args:
            sample_shape: shape of independent draws.

        Returns:
            Whole numbers from 1 on [*sample_shape, ...].
        """
        rate = self.log_rate.exp().expand(self._extended_shape(Size(sample_shape)))
        first = -(torch.rand_like(rate) * (-rate).expm1()).log1p()
        return (1.0 + poisson_draws((rate - first).clamp_min(0.0))).to(self.dtype)


def log_share_above_zero(log_rate: Tensor) -> Tensor:
    """Compute log(1 − exp(−μ)), the log probability that a Poisson count is not 0, float64.

    Args:
        log_rate: log μ.
    """
    eta = log_rate.double()
    small = eta < SMALL_LOG_RATE
    rate = torch.where(small, 0.0, eta).exp()
    return torch.where(small, eta - 0.5 * eta.clamp_max(SMALL_LOG_RATE).exp(), (-(-rate).expm1()).log())


def mean_above_zero(log_rate: Tensor) -> Tensor:
    """Compute the mean of the counts that are not 0, μ / (1 − exp(−μ)), float64.

    Args:
        log_rate: log μ.
    """
    return (log_rate.double() - log_share_above_zero(log_rate)).exp()


def beyond_saturated(count: Tensor, log_rate: Tensor) -> Tensor:
    """Compute log p(y) less the Poisson's log probability of y at the rate y, float64; −∞ of zeros.

    Args:
        count: y, at least 0.
        log_rate: log μ. Both broadcast.
    """
    found = -poisson_half_deviance(count, log_rate) - log_share_above_zero(log_rate)
    return torch.where(count > 0, found, -torch.inf)


@cumulative.register
def _(distribution: ZeroTruncatedPoisson, y: Tensor) -> Tensor:
    # Without derivatives: quantiles of counts do not change with the rate.
    count, log_rate = torch.broadcast_tensors(y.detach().floor().double(), distribution.log_rate.detach())
    rate = log_rate.exp()
    # Beyond a count of 10³⁰⁰ PyTorch's function is NaN, and of a large rate it has few digits.
    above = torch.special.gammainc(count.clamp(0.0, 2.0 * MOST_EXACT) + 1.0, rate.clamp_max(MOST_EXACT))
    exact = 1.0 - above / log_share_above_zero(log_rate).exp()
    untruncated = cumulative(Poisson(rate, validate_args=False), count)
    return torch.where(count < 1, 0.0, torch.where(rate <= MOST_EXACT, exact, untruncated))


@outputs_of_rows.register
def _(distribution: ZeroTruncatedPoisson, rows: Tensor) -> ZeroTruncatedPoisson:
    return ZeroTruncatedPoisson(distribution.log_rate[rows])
