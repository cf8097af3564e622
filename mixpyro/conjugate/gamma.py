"""Gamma distributions as values, the conjugate prior of precisions."""

from typing import NamedTuple

import torch
from torch import Tensor


class Gamma(NamedTuple):
    """Independent τ ~ Gamma(shape, rate), float64, of any shape; the two parameters broadcast."""

    shape: Tensor
    rate: Tensor

    @property
    def mean(self) -> Tensor:
        """E τ = shape / rate."""
        return self.shape / self.rate

    @property
    def expected_log(self) -> Tensor:
        """E log τ = ψ(shape) − log rate; Bishop (2006), eq. B.30."""
        return torch.digamma(self.shape) - self.rate.log()

    def kl(self, prior: "Gamma") -> Tensor:
        """Return KL(self ‖ prior) of every τ in nats.

        Args:
            prior: of a shape that broadcasts with this one's.
        """
        return (
            (self.shape - prior.shape) * torch.digamma(self.shape)
            + torch.lgamma(prior.shape)
            - torch.lgamma(self.shape)
            + prior.shape * (self.rate / prior.rate).log()
            + (prior.rate - self.rate) * self.mean
        )
