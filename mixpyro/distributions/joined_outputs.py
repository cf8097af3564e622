"""Independent distributions of different outputs, side by side along the event axis."""

from collections.abc import Sequence

import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.distributions.util import broadcast_shape
from torch import Size, Tensor

from mixpyro.distributions.checked_values import checked_as
from mixpyro.distributions.of_parts import OfParts
from mixpyro.distributions.outputs import are_whole
from mixpyro.distributions.quantiles import cumulative


class JoinedOutputs(OfParts):
    """Join independent distributions of event shapes [P₁], [P₂], … to one of event shape [P₁ + P₂ + …].

    Args:
        parts: at least one distribution of one event axis. Batch shapes must broadcast.
    """

    def __init__(self, parts: Sequence[TorchDistributionMixin]) -> None:
        shape = Size(broadcast_shape(*(part.batch_shape for part in parts)))
        self.parts = tuple(part if part.batch_shape == shape else part.expand(shape) for part in parts)
        self.sizes = [part.event_shape[0] for part in self.parts]
        super().__init__(shape, Size([sum(self.sizes)]))

    @property
    def axis(self) -> int:
        """Axis of the outputs."""
        return -1

    def expand(
        self, batch_shape: Size | list[int] | tuple[int, ...], _instance: TorchDistribution | None = None
    ) -> "JoinedOutputs":
        """Expand the batch shape.

        Args:
            batch_shape: the new shape.
            _instance: not used.

        Returns:
            A new distribution that shares the parameters of this one.
        """
        return checked_as(self, JoinedOutputs([part.expand(Size(batch_shape)) for part in self.parts]))

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute the log probability.

        Args:
            value: [..., P].

        Returns:
            Sums of the parts' log probabilities in the broadcast shape, in nats.
        """
        if self._validate_args:
            self._validate_sample(value)
        total: Tensor = self.parts[0].log_prob(value[..., : self.sizes[0]])
        for part, own in zip(self.parts[1:], value.split(self.sizes, dim=-1)[1:], strict=True):
            total = total + part.log_prob(own)
        return total


@cumulative.register
def _(distribution: JoinedOutputs, y: Tensor) -> Tensor:
    shares = y.split(distribution.sizes, dim=-1)
    found = [cumulative(part, own) for part, own in zip(distribution.parts, shares, strict=True)]
    shape = broadcast_shape(*(part.shape[:-1] for part in found))
    return torch.cat([part.expand(*shape, part.shape[-1]) for part in found], dim=-1)


@are_whole.register
def _(distribution: JoinedOutputs) -> list[bool]:
    return [is_whole for part in distribution.parts for is_whole in are_whole(part)]
