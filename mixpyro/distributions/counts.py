"""Poisson and binomial distributions that are precise for counts of any size, in float32 too."""

from collections.abc import Sequence

import torch
from pyro.distributions import Binomial, Poisson
from torch import Size, Tensor

from mixpyro.distributions.checked_values import checked_as
from mixpyro.numerics.count_densities import (
    binomial_half_deviance,
    poisson_half_deviance,
    saturated_binomial,
    saturated_poisson,
)
from mixpyro.numerics.count_draws import binomial_draws, poisson_draws


class PrecisePoisson(Poisson):
    """Poisson as in Pyro, given by the logarithm of its rate, for counts and rates of any size.

    Pyro's log probability loses its digits at large counts, and its draws are negative beyond 2⁶³. Parameters are kept
    in float64; log probabilities, draws and means have the dtype asked for.

    Args:
        log_rate: logarithm of the rate, of any shape.
        dtype: of results; that of ``log_rate`` by default.
        validate_args: whether to check the arguments and values; by default as Pyro's own validation is set.

    Attributes:
        log_rate: float64.
        rate: its exponential, float64.
    """

    def __init__(
        self, log_rate: Tensor, *, dtype: torch.dtype | None = None, validate_args: bool | None = None
    ) -> None:
        self.log_rate, self.dtype = log_rate.double(), dtype or log_rate.dtype
        super().__init__(self.log_rate.exp(), validate_args=validate_args)  # type: ignore[no-untyped-call]

    def expand(self, batch_shape: Sequence[int], _instance: Poisson | None = None) -> "PrecisePoisson":
        """Expand the batch shape.

        Args:
            batch_shape: the new shape.
            _instance: not used.

        Returns:
            A new distribution that shares the parameters of this one.
        """
        log_rate = self.log_rate.expand(Size(batch_shape))
        return checked_as(self, PrecisePoisson(log_rate, dtype=self.dtype, validate_args=False))

    @property
    def mean(self) -> Tensor:
        """The rate, in the dtype of results; so is the variance."""
        return self.rate.to(self.dtype)

    @property
    def variance(self) -> Tensor:
        """The rate, in the dtype of results."""
        return self.mean

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute the log probability.

        Args:
            value: counts of any shape that broadcasts with the batch shape.

        Returns:
            Log probabilities in the broadcast shape, in nats.
        """
        if self._validate_args:
            self._validate_sample(value)
        return (saturated_poisson(value) - poisson_half_deviance(value, self.log_rate)).to(self.dtype)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw counts.

        Args:
            sample_shape: shape of independent draws.

        Returns:
            Whole numbers from 0 on [*sample_shape, ...]; ∞ where the rate is.
        """
        return poisson_draws(self.rate.expand(self._extended_shape(Size(sample_shape)))).to(self.dtype)


class PreciseBinomial(Binomial):
    """Binomial as in Pyro, given by its logits, for counts and trials of any size.

    Parameters are kept in float64; log probabilities, draws and means have the dtype asked for.

    Args:
        total_count: trials, of a shape that broadcasts with that of ``logits``.
        logits: log p / (1 − p).
        dtype: of results; that of ``logits`` by default.
        validate_args: whether to check the arguments and values; by default as Pyro's own validation is set.
    """

    def __init__(
        self,
        total_count: Tensor,
        logits: Tensor,
        *,
        dtype: torch.dtype | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.dtype = dtype or logits.dtype
        super().__init__(total_count.double(), logits=logits.double(), validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Binomial | None = None) -> "PreciseBinomial":
        """Expand the batch shape.

        Args:
            batch_shape: the new shape.
            _instance: not used.

        Returns:
            A new distribution that shares the parameters of this one.
        """
        shape = Size(batch_shape)
        trials, logits = self.total_count.expand(shape), self.logits.expand(shape)
        return checked_as(self, PreciseBinomial(trials, logits, dtype=self.dtype, validate_args=False))

    @property
    def mean(self) -> Tensor:
        """Trials times the probability, in the dtype of results."""
        return (self.total_count * self.probs).to(self.dtype)

    @property
    def variance(self) -> Tensor:
        """Trials times both probabilities, in the dtype of results."""
        return (self.total_count * self.probs * torch.sigmoid(-self.logits)).to(self.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute the log probability.

        Args:
            value: counts of any shape that broadcasts with the batch shape.

        Returns:
            Log probabilities in the broadcast shape, in nats.
        """
        if self._validate_args:
            self._validate_sample(value)
        half_deviance = binomial_half_deviance(value, self.total_count, self.logits)
        return (saturated_binomial(value, self.total_count) - half_deviance).to(self.dtype)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw counts.

        Args:
            sample_shape: shape of independent draws.

        Returns:
            Whole numbers from 0 to the trials [*sample_shape, ...].
        """
        shape = self._extended_shape(Size(sample_shape))
        return binomial_draws(self.total_count.expand(shape), self.logits.expand(shape)).to(self.dtype)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Return all values, 0 to the trials, in the dtype of results.

        Args:
            expand: whether to repeat them for the whole batch.
        """
        values: Tensor = super().enumerate_support(expand)  # type: ignore[no-untyped-call]
        return values.to(self.dtype)
