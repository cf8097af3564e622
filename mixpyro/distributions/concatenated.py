"""Distributions of different families, concatenated along the axis of components."""

from collections.abc import Sequence

import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Size, Tensor

from mixpyro.distributions.checked_values import checked_as
from mixpyro.distributions.of_parts import OfParts
from mixpyro.distributions.outputs import are_whole
from mixpyro.distributions.quantiles import cumulative


class Concatenated(OfParts):
    """Concatenate distributions of batch shapes [..., K₁], [..., K₂], … to batch shape [..., K₁ + K₂ + …].

    With it ``MixtureSameFamily`` can mix components of different families.

    Args:
        parts: at least one distribution. All have the same event shape, and the same batch shape but for the last axis.
    """

    def __init__(self, parts: Sequence[TorchDistributionMixin]) -> None:
        self.parts = tuple(parts)
        self.sizes = [part.batch_shape[-1] for part in self.parts]
        batch_shape = (*self.parts[0].batch_shape[:-1], sum(self.sizes))
        super().__init__(Size(batch_shape), self.parts[0].event_shape)

    @property
    def axis(self) -> int:
        """Axis of the components."""
        return -1 - self.event_dim

    def expand(
        self, batch_shape: Size | list[int] | tuple[int, ...], _instance: TorchDistribution | None = None
    ) -> "Concatenated":
        """Expand the batch shape.

        Args:
            batch_shape: the new shape, whose last axis must be K, the number of components.
            _instance: not used.

        Returns:
            A new distribution that shares the parameters of this one.
        """
        pairs = zip(self.parts, self.sizes, strict=True)
        parts = [part.expand(Size((*batch_shape[:-1], size))) for part, size in pairs]
        return checked_as(self, Concatenated(parts))

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute the log probability of a value under each component.

        Args:
            value: [..., K, *event], or [..., 1, *event] for one value under all components.

        Returns:
            Log probabilities [..., K], in nats.
        """
        if self._validate_args:
            self._validate_sample(value)
        axis = -1 - self.event_dim
        shares = [value] * len(self.parts) if value.shape[axis] == 1 else value.split(self.sizes, dim=axis)
        return torch.cat([part.log_prob(share) for part, share in zip(self.parts, shares, strict=True)], dim=-1)


@cumulative.register
def _(distribution: Concatenated, y: Tensor) -> Tensor:
    return torch.cat([cumulative(part, y) for part in distribution.parts], dim=-2)


@are_whole.register
def _(distribution: Concatenated) -> list[bool]:
    return [all(of_parts) for of_parts in zip(*map(are_whole, distribution.parts), strict=True)]
