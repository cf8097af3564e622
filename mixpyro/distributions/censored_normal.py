"""Normal distributions of outcomes that are given by a lower and an upper limit."""

from collections.abc import Sequence

import torch
from pyro.distributions import Normal, TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from mixpyro import arguments
from mixpyro.distributions.checked_values import ChecksValues, checked_as, shape_of_draws
from mixpyro.distributions.outputs import guessed_quantiles, outputs_of_rows
from mixpyro.distributions.quantiles import cumulative
from mixpyro.numerics.censored_normal import log_probability


class CensoredNormal(ChecksValues, TorchDistribution):
    """Normal outcomes, each given by its limits [..., 2]: equal where it is known, infinite where there is none.

    Draws, means and quantiles are of outcomes that are known, both limits equal: which ones would be censored is not
    part of the model.

    Args:
        loc: mean, of any shape.
        scale: standard deviation, above 0, of a shape that broadcasts.
        validate_args: whether to check the arguments and values; by default as Pyro's own validation is set.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}  # noqa: RUF012 (as in torch)

    def __init__(self, loc: Tensor, scale: Tensor, *, validate_args: bool | None = None) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        super().__init__(self.loc.shape, Size([2]), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """All real numbers, and infinity."""
        return constraints.independent(constraints.real, 1)

    def expand(self, batch_shape: Size | Sequence[int], _instance: TorchDistribution | None = None) -> "CensoredNormal":
        """Expand the batch shape.

        Args:
            batch_shape: the new shape.
            _instance: not used.

        Returns:
            A new distribution that shares the parameters of this one.
        """
        loc, scale = (part.expand(Size(batch_shape)) for part in (self.loc, self.scale))
        return checked_as(self, CensoredNormal(loc, scale, validate_args=False))

    @property
    def mean(self) -> Tensor:
        """The mean, twice [..., 2]."""
        return _twice(self.loc)

    @property
    def variance(self) -> Tensor:
        """The variance, twice [..., 2]."""
        return _twice(self.scale.square())

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute the log density of known outcomes, and the log probability of the limits of others.

        Args:
            value: limits [..., 2] of a shape that broadcasts.

        Returns:
            In the broadcast shape without the last axis, in nats.
        """
        if self._validate_args:
            self._validate_sample(value)
            value = arguments.normal(value)
        return censored_log_prob(value, self.loc, self.scale).to(self.loc.dtype)

    def _validate_sample(self, value: Tensor) -> None:
        """Raise unless a value can be limits of an outcome; arguments as of the base class."""
        super()._validate_sample(value)
        crossed = value[..., 0] > value[..., 1]
        if bool(crossed.any()):
            got = value[crossed][0].tolist()
            raise ValueError(f"`value` must have lower limits that are not above the upper ones; got {got}.")

    @torch.no_grad()
    def sample(self, sample_shape: Size | Sequence[int] = Size()) -> Tensor:  # noqa: B008 (as in torch)
        """Draw outcomes that are known.

        Args:
            sample_shape: shape of independent draws.

        Returns:
            [*sample_shape, ..., 2], both limits equal.
        """
        loc = self.loc.expand(self._extended_shape(shape_of_draws(sample_shape))[:-1])
        return _twice(loc + self.scale * torch.randn_like(loc))


def censored_log_prob(limits: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Compute the log density of known outcomes, and the log probability of the limits of others, float64.

    Args:
        limits: [..., 2].
        loc: mean.
        scale: standard deviation. Both broadcast with the limits without their last axis.
    """
    low, high = standardised_limits(limits, loc, scale)
    is_known = limits[..., 0] == limits[..., 1]
    return log_probability(low, high) - torch.where(is_known, scale.double().log(), 0.0)


def standardised_limits(limits: Tensor, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return limits in standard units, float64, with derivatives where they are finite.

    Args:
        limits: [..., 2].
        loc: mean.
        scale: standard deviation. Both broadcast with the limits without their last axis.
    """
    loc, scale = loc.double(), scale.double()
    found = []
    for limit in limits.double().unbind(-1):
        is_open = limit.isinf()
        found.append(torch.where(is_open, limit, (torch.where(is_open, 0.0, limit) - loc) / scale))
    return found[0], found[1]


def _twice(values: Tensor) -> Tensor:
    """Return values as both limits."""
    return values.unsqueeze(-1).expand(*values.shape, 2)


@cumulative.register
def _(distribution: CensoredNormal, y: Tensor) -> Tensor:
    loc, scale = (part.double().unsqueeze(-1) for part in (distribution.loc, distribution.scale))
    return torch.special.ndtr((y - loc) / scale)


@outputs_of_rows.register
def _(distribution: CensoredNormal, rows: Tensor) -> CensoredNormal:
    return CensoredNormal(distribution.loc[rows], distribution.scale[rows])


@guessed_quantiles.register
def _(distribution: CensoredNormal, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    return guessed_quantiles(
        Normal(distribution.mean, distribution.variance.sqrt(), validate_args=False), probabilities
    )
