"""What distributions that are made of several others have in common."""

from collections.abc import Sequence

import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Size, Tensor
from torch.distributions import constraints

from mixpyro.distributions.checked_values import ChecksValues, shape_of_draws
from mixpyro.distributions.outputs import guessed_quantiles, outputs_of_rows


class OfParts(ChecksValues, TorchDistribution):
    """Base of distributions whose values are those of their parts, side by side.

    A subclass sets :attr:`parts` before it calls this constructor, and takes parts as its only argument.

    Args:
        batch_shape: of the whole.
        event_shape: of the whole.

    Attributes:
        parts: the distributions, in order.
    """

    arg_constraints = {}  # noqa: RUF012 (as in torch; each part checks its own)
    parts: tuple[TorchDistributionMixin, ...]

    def __init__(self, batch_shape: Size, event_shape: Size) -> None:
        super().__init__(batch_shape, event_shape)

    @property
    def axis(self) -> int:
        """Axis of a value along which the parts lie, counted from the last."""
        raise NotImplementedError

    @property
    def support(self) -> constraints.Constraint:
        """All real numbers; each part checks the values that it is given."""
        return constraints.independent(constraints.real, self.event_dim)

    def sample(self, sample_shape: Size | Sequence[int] = Size()) -> Tensor:  # noqa: B008 (as in torch)
        """Draw values of all parts.

        Args:
            sample_shape: shape of independent draws.

        Returns:
            Draws [*sample_shape, *batch, *event]; of components [*sample_shape, ..., K, *event].
        """
        shape = shape_of_draws(sample_shape)
        return torch.cat([part.sample(shape) for part in self.parts], dim=self.axis)

    @property
    def mean(self) -> Tensor:
        """Mean of each value, of components of each component."""
        return torch.cat([part.mean for part in self.parts], dim=self.axis)

    @property
    def variance(self) -> Tensor:
        """Variance of each value, of components of each component."""
        return torch.cat([part.variance for part in self.parts], dim=self.axis)


@outputs_of_rows.register
def _(distribution: OfParts, rows: Tensor) -> OfParts | None:
    selected = [outputs_of_rows(part, rows) for part in distribution.parts]
    known = [part for part in selected if part is not None]
    return type(distribution)(known) if len(known) == len(selected) else None  # type: ignore[call-arg, arg-type]


@guessed_quantiles.register
def _(distribution: OfParts, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    # The probabilities are the same for all parts.
    lows, highs = zip(*(guessed_quantiles(part, probabilities) for part in distribution.parts), strict=True)
    return torch.cat(lows, dim=distribution.axis), torch.cat(highs, dim=distribution.axis)
