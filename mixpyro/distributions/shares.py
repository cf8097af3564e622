"""Beta distributions of shares, both of which are above zero as numbers too."""

from collections.abc import Sequence

import torch
from pyro.distributions import Beta, Independent
from torch import Tensor

from mixpyro.distributions.checked_values import checked_as


class Share(Beta):
    """A Beta distribution whose draws are never 0 or 1 to the last digit, where its density may be infinite.

    With a concentration of 0.01 two thirds of all draws are as near to 0 or 1 as that.
    """

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = torch.Size()) -> Tensor:  # noqa: B008 (as in PyTorch)
        """Return draws.

        Args:
            sample_shape: of the draws, in front of the batch shape.
        """
        drawn: Tensor = super().rsample(sample_shape)
        numbers = torch.finfo(drawn.dtype)
        return drawn.clamp(numbers.tiny, 1.0 - numbers.eps)


class Shares(Independent):
    """K independent shares, event shape [K].

    Args:
        own: first parameter of each Beta distribution [..., K].
        rest: second parameter [..., K].
        validate_args: as for every distribution of PyTorch.
    """

    def __init__(self, own: Tensor, rest: Tensor, validate_args: bool | None = None) -> None:
        super().__init__(Share(own, rest, validate_args=validate_args), 1, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> "Shares":
        """Return the same distribution of a larger batch.

        Args:
            batch_shape: to which the batch shape broadcasts.
        """
        shape, share = torch.Size([*batch_shape, *self.event_shape]), self.base_dist
        own, rest = share.concentration1.expand(shape), share.concentration0.expand(shape)
        return checked_as(self, Shares(own, rest, validate_args=False))

    def conjugate_update(self, other: "Shares") -> "tuple[Shares, Tensor]":
        """Return the normalised product with another density of the same kind, and the log of what normalises it.

        Pyro's own method of independent distributions raises.

        Args:
            other: of as many shares.
        """
        product, log_normaliser = self.base_dist.conjugate_update(other.base_dist)
        return Shares(product.concentration1, product.concentration0), log_normaliser.sum(-1)
