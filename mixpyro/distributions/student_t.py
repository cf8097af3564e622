"""Student-t distributions that are precise in float32 and cheap for many objects."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import MultivariateStudentT, StudentT
from torch import Tensor

from mixpyro import arguments
from mixpyro.arguments.late_imports import import_symbolic_shapes
from mixpyro.distributions.checked_values import ChecksValues


def log_gamma_ratio(df: Tensor, size: int) -> Tensor:
    """Compute log Γ((df + size) / 2) − log Γ(df / 2).

    At a million degrees of freedom each term is near 10⁷, where float32 has no decimals. The difference is therefore
    taken in float64.

    Args:
        df: degrees of freedom, above 0, of any shape.
        size: number of outputs, at least 1.

    Returns:
        The differences, in the shape and dtype of ``df``.
    """
    half = 0.5 * df.double()
    return (torch.lgamma(half + 0.5 * size) - torch.lgamma(half)).to(df.dtype)


class PreciseStudentT(StudentT):
    """Student-t as in Pyro, whose log density keeps its precision in float32 at many degrees of freedom."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute the log density.

        Args:
            value: of any shape that broadcasts with the batch shape.

        Returns:
            Log densities in the broadcast shape, in nats.

        References:
            Bishop (2006), Pattern recognition and machine learning, eq. 2.159.
        """
        if self._validate_args:
            self._validate_sample(value)
        # In float64: the square of a far value overflows float32, and the gamma functions lose their digits there.
        df, scale = self.df.double(), self.scale.double()
        squared = ((value.double() - self.loc) / scale).square()
        log_normaliser = log_gamma_ratio(df, 1) - 0.5 * (df.log() + math.log(math.pi)) - scale.log()
        return (log_normaliser - 0.5 * (df + 1.0) * torch.log1p(squared / df)).to(self.loc.dtype)


class SharedStudentT(ChecksValues, MultivariateStudentT):
    """Multivariate Student-t as in Pyro, for components whose scale all objects share.

    Once it is expanded to a batch [N, K], Pyro solves a triangular system for every object and component, and stores
    N K P² numbers. This class inverts one matrix a component, and stores N K P numbers.
    """

    def __new__(cls, *args: Tensor, **kwargs: Any) -> "SharedStudentT":  # noqa: ANN401 (of the constructor)
        """Import what PyTorch would import in the constructor, where it changes the filters of warnings."""
        import_symbolic_shapes()
        return super().__new__(cls)

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute the log density.

        Args:
            value: rows [..., P] that broadcast with the batch shape.

        Returns:
            Log densities [...], in nats.

        References:
            Bishop (2006), Pattern recognition and machine learning, eq. B.68.
        """
        with arguments.outside_of_contexts(value):
            return self._log_prob(value)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw values that gradients go through, in the precision of the parameters.

        Args:
            sample_shape: shape of independent draws.

        Returns:
            [*sample_shape, ..., P].
        """
        with arguments.outside_of_contexts(self.loc):
            return super().rsample(sample_shape)

    def _log_prob(self, value: Tensor) -> Tensor:
        """Compute the log density."""
        if self._validate_args:
            self._validate_sample(value)
        # In float64: the square of a far value overflows float32.
        root, size, df = self._unbroadcasted_scale_tril.double(), self.loc.shape[-1], self.df.double()
        identity = torch.eye(size, dtype=root.dtype, device=root.device)
        whitening = torch.linalg.solve_triangular(root, identity, upper=False)
        distance = torch.einsum("...pq,...q->...p", whitening, value.double() - self.loc).square().sum(-1)
        log_normaliser = (
            log_gamma_ratio(df, size)
            - 0.5 * size * (df.log() + math.log(math.pi))
            - root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        )
        return (log_normaliser - 0.5 * (df + size) * torch.log1p(distance / df)).to(self.loc.dtype)
