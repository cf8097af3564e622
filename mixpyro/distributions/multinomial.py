"""Multinomial counts whose totals differ from row to row."""

from collections.abc import Sequence

import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.distributions.util import broadcast_shape
from torch import Size, Tensor
from torch.distributions import constraints

from mixpyro import arguments
from mixpyro.distributions.checked_values import ChecksValues, checked_as, shape_of_draws
from mixpyro.distributions.counts import PreciseBinomial
from mixpyro.distributions.outputs import outputs_of_rows
from mixpyro.distributions.quantiles import cumulative
from mixpyro.numerics.count_densities import saturated_poisson
from mixpyro.numerics.count_draws import binomial_draws


class PreciseMultinomial(ChecksValues, TorchDistribution):
    """Counts of C categories, given by the total and logits; PyTorch's own needs one total for all rows.

    Parameters are kept in float64; log probabilities, draws and means have the dtype asked for.

    Args:
        total_count: n, at least 0, of a shape that broadcasts with the logits' without the last axis.
        logits: log probabilities up to a constant [..., C].
        dtype: of results; that of ``logits`` by default.
        validate_args: whether to check the arguments and values; by default as Pyro's own validation is set.
    """

    arg_constraints = {"logits": constraints.real_vector}  # noqa: RUF012 (as in torch)

    def __init__(
        self,
        total_count: Tensor,
        logits: Tensor,
        *,
        dtype: torch.dtype | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.dtype = dtype or logits.dtype
        shape = torch.Size(broadcast_shape(total_count.shape, logits.shape[:-1]))
        self.total_count = total_count.double().expand(shape)
        self.logits = logits.double().log_softmax(-1).expand(*shape, -1)
        super().__init__(shape, logits.shape[-1:], validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """Whole numbers from 0 on."""
        return constraints.independent(constraints.nonnegative_integer, 1)

    def expand(
        self, batch_shape: Size | Sequence[int], _instance: TorchDistribution | None = None
    ) -> "PreciseMultinomial":
        """Expand the batch shape.

        Args:
            batch_shape: the new shape.
            _instance: not used.

        Returns:
            A new distribution that shares the parameters of this one.
        """
        shape = Size(batch_shape)
        trials, logits = self.total_count.expand(shape), self.logits.expand(*shape, -1)
        return checked_as(self, PreciseMultinomial(trials, logits, dtype=self.dtype, validate_args=False))

    @property
    def mean(self) -> Tensor:
        """n p [..., C], in the dtype of results."""
        return (self.total_count.unsqueeze(-1) * self.logits.exp()).to(self.dtype)

    @property
    def variance(self) -> Tensor:
        """n p (1 − p) [..., C], in the dtype of results."""
        return (self.total_count.unsqueeze(-1) * self.logits.exp() * -self.logits.expm1()).to(self.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute the log probability, −∞ of counts that do not sum to the total.

        Args:
            value: counts [..., C] of a shape that broadcasts.

        Returns:
            Log probabilities in the broadcast shape without the last axis, in nats.
        """
        if self._validate_args:
            self._validate_sample(value)
            value = arguments.normal(value)
        total = value.double().sum(-1)
        found = saturated_multinomial(value) - multinomial_half_deviance(value, self.logits)
        return torch.where(total == self.total_count, found, -torch.inf).to(self.dtype)

    @torch.no_grad()
    def sample(self, sample_shape: Size | Sequence[int] = Size()) -> Tensor:  # noqa: B008 (as in torch)
        """Draw counts, one category after another: each is binomial given those before it.

        Args:
            sample_shape: shape of independent draws.

        Returns:
            Whole numbers [*sample_shape, ..., C] that sum to the totals.
        """
        shape = self._extended_shape(shape_of_draws(sample_shape))
        logits, left = self.logits.expand(shape), self.total_count.expand(shape[:-1]).clone()
        drawn = []
        for category in range(shape[-1] - 1):
            of_rest = logits[..., category + 1 :].logsumexp(-1)
            drawn.append(binomial_draws(left, logits[..., category] - of_rest))
            left = left - drawn[-1]
        return torch.stack([*drawn, left], dim=-1).to(self.dtype)


def saturated_multinomial(count: Tensor) -> Tensor:
    """Compute the log probability of counts where the probabilities are their shares [...], float64, in nats.

    Args:
        count: y, at least 0 [..., C].
    """
    y = count.double()
    return saturated_poisson(y).sum(-1) - saturated_poisson(y.sum(-1))


def multinomial_half_deviance(count: Tensor, log_probabilities: Tensor) -> Tensor:
    """Compute half the deviance of multinomial counts, Σ y log(y / n p), in nats, float64.

    Args:
        count: y, at least 0 [..., C].
        log_probabilities: log p [..., C]. Both broadcast.
    """
    y = count.double()
    shares = y / y.sum(-1, keepdim=True).clamp_min(1.0)
    return (torch.xlogy(y, shares) - torch.where(y > 0, y * log_probabilities.double(), 0.0)).sum(-1)


@cumulative.register
def _(distribution: PreciseMultinomial, y: Tensor) -> Tensor:
    return cumulative(_each_category(distribution), y)


@outputs_of_rows.register
def _(distribution: PreciseMultinomial, rows: Tensor) -> TorchDistributionMixin:
    own = PreciseMultinomial(distribution.total_count[rows], distribution.logits[rows])
    return _each_category(own).to_event(1)  # type: ignore[no-untyped-call]


def _each_category(distribution: PreciseMultinomial) -> PreciseBinomial:
    """Return the distribution of each count by itself: binomial, with odds against all other categories together."""
    logits = distribution.logits
    own = torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)
    others = logits.unsqueeze(-2).masked_fill(own, -torch.inf).logsumexp(-1)
    return PreciseBinomial(distribution.total_count.unsqueeze(-1), logits - others, validate_args=False)
