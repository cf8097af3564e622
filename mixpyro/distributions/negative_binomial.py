"""Negative binomial distributions by mean and dispersion, precise near the Poisson limit."""

from collections.abc import Sequence

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from mixpyro.distributions.checked_values import checked_as
from mixpyro.distributions.outputs import outputs_of_rows
from mixpyro.distributions.quantiles import by_scipy, cumulative
from mixpyro.numerics.count_densities import saturated_poisson
from mixpyro.numerics.count_draws import poisson_draws
from mixpyro.numerics.overdispersed_counts import negative_binomial_half_deviance, saturated_beyond_poisson


class PreciseNegativeBinomial(TorchDistribution):
    """Counts of mean μ and variance μ + α μ², given by log μ and α.

    Pyro's own loses its digits where α is small: its log gamma functions are of 1 / α. Parameters are kept in float64;
    log probabilities, draws and means have the dtype asked for.

    Args:
        log_rate: log μ.
        dispersion: α, above 0, of a shape that broadcasts with that of ``log_rate``.
        dtype: of results; that of ``log_rate`` by default.
        validate_args: whether to check the arguments and values; by default as Pyro's own validation is set.
    """

    arg_constraints = {"log_rate": constraints.real, "dispersion": constraints.positive}  # noqa: RUF012 (as in torch)
    support = constraints.nonnegative_integer

    def __init__(
        self,
        log_rate: Tensor,
        dispersion: Tensor,
        *,
        dtype: torch.dtype | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.dtype = dtype or log_rate.dtype
        self.log_rate, self.dispersion = torch.broadcast_tensors(log_rate.double(), dispersion.double())
        super().__init__(self.log_rate.shape, validate_args=validate_args)

    def expand(
        self, batch_shape: Size | Sequence[int], _instance: TorchDistribution | None = None
    ) -> "PreciseNegativeBinomial":
        """Expand the batch shape.

        Args:
            batch_shape: the new shape.
            _instance: not used.

        Returns:
            A new distribution that shares the parameters of this one.
        """
        shape = Size(batch_shape)
        log_rate, dispersion = self.log_rate.expand(shape), self.dispersion.expand(shape)
        return checked_as(self, PreciseNegativeBinomial(log_rate, dispersion, dtype=self.dtype, validate_args=False))

    @property
    def mean(self) -> Tensor:
        """μ, in the dtype of results."""
        return self.log_rate.exp().to(self.dtype)

    @property
    def variance(self) -> Tensor:
        """μ + α μ², in the dtype of results."""
        rate = self.log_rate.exp()
        return (rate * (1.0 + self.dispersion * rate)).to(self.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute the log probability.

        Args:
            value: counts of any shape that broadcasts with the batch shape.

        Returns:
            Log probabilities in the broadcast shape, in nats.
        """
        if self._validate_args:
            self._validate_sample(value)
        beyond = saturated_beyond_poisson(value, self.dispersion)
        half_deviance = negative_binomial_half_deviance(value, self.log_rate, self.dispersion)
        return (saturated_poisson(value) + beyond - half_deviance).to(self.dtype)

    @torch.no_grad()
    def sample(self, sample_shape: Size | Sequence[int] = Size()) -> Tensor:  # noqa: B008 (as in torch)
        """Draw counts: Poisson, of rates that are Gamma distributed.

        Args:
            sample_shape: shape of independent draws.

        Returns:
            Whole numbers from 0 on [*sample_shape, ...].
        """
        shape = self._extended_shape(Size(sample_shape))
        size = self.dispersion.expand(shape).reciprocal()
        rates = self.log_rate.expand(shape).exp() * torch._standard_gamma(size) / size
        return poisson_draws(rates).to(self.dtype)


@cumulative.register
def _(distribution: PreciseNegativeBinomial, y: Tensor) -> Tensor:
    # P(Y ≤ n) is the regularised incomplete beta function of (1/α, n + 1) at 1 / (1 + α μ). Without derivatives:
    # quantiles of counts do not change with the rate.
    parameters = (part.detach() for part in (distribution.log_rate, distribution.dispersion))
    count, log_rate, dispersion = torch.broadcast_tensors(y.detach().floor().double(), *parameters)
    log_odds = log_rate + dispersion.log()
    few, size = count.clamp_min(0.0) + 1.0, dispersion.reciprocal()
    # By the smaller of both probabilities, which keeps its digits.
    below = by_scipy("betainc", size, few, torch.sigmoid(-log_odds))
    by_other = by_scipy("betaincc", few, size, torch.sigmoid(log_odds))
    return torch.where(count < 0, 0.0, torch.where(log_odds < 0, by_other, below))


@outputs_of_rows.register
def _(distribution: PreciseNegativeBinomial, rows: Tensor) -> PreciseNegativeBinomial:
    return PreciseNegativeBinomial(distribution.log_rate[rows], distribution.dispersion[rows])
