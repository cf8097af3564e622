"""Unlike distributions side by side along the axis of components."""

from collections.abc import Sequence

import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Size, Tensor
from torch.distributions import constraints

from mixpyro.distributions.quantiles import cumulative


class Concatenated(TorchDistribution):
    """Distributions of batch shapes [..., K₁], [..., K₂], … as one of batch shape [..., K₁ + K₂ + …].

    Made to stand in ``MixtureSameFamily``, for components that are not of the same family. A value's axis of components
    may have length one, to be scored under each.

    Args:
        parts: distributions of one event shape, their batch shapes alike but for the last axis.
    """

    arg_constraints = {}  # noqa: RUF012 (as torch has it; each part checks its own)

    def __init__(self, parts: Sequence[TorchDistributionMixin]) -> None:
        self.parts = tuple(parts)
        self.sizes = [part.batch_shape[-1] for part in self.parts]
        batch_shape = (*self.parts[0].batch_shape[:-1], sum(self.sizes))
        super().__init__(Size(batch_shape), self.parts[0].event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Anything: each part checks what it is given."""
        return constraints.independent(constraints.real, self.event_dim)

    def expand(
        self, batch_shape: Size | list[int] | tuple[int, ...], _instance: TorchDistribution | None = None
    ) -> "Concatenated":
        """The parts with more batch axes on the left; that of components must stay."""
        pairs = zip(self.parts, self.sizes, strict=True)
        return Concatenated([part.expand(Size((*batch_shape[:-1], size))) for part, size in pairs])

    def log_prob(self, value: Tensor) -> Tensor:
        """Each part's log probability of its share of the value [..., K]."""
        axis = -1 - self.event_dim
        shares = [value] * len(self.parts) if value.shape[axis] == 1 else value.split(self.sizes, dim=axis)
        return torch.cat([part.log_prob(share) for part, share in zip(self.parts, shares, strict=True)], dim=-1)

    def sample(self, sample_shape: Size | Sequence[int] = Size()) -> Tensor:  # noqa: B008 (as torch has it)
        """A draw of each component [..., K, …]."""
        return self._beside([part.sample(Size(sample_shape)) for part in self.parts])

    @property
    def mean(self) -> Tensor:
        """Every component's mean [..., K, …]."""
        return self._beside([part.mean for part in self.parts])

    @property
    def variance(self) -> Tensor:
        """Every component's variance [..., K, …]."""
        return self._beside([part.variance for part in self.parts])

    def _beside(self, values: list[Tensor]) -> Tensor:
        return torch.cat(values, dim=-1 - self.event_dim)


@cumulative.register
def _(distribution: Concatenated, y: Tensor) -> Tensor:
    return torch.cat([cumulative(part, y) for part in distribution.parts], dim=-2)
