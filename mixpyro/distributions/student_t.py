"""Student-t distributions that keep their digits in float32, and one that many objects share."""

import math

import torch
from pyro.distributions import MultivariateStudentT, StudentT
from torch import Tensor


def log_gamma_ratio(df: Tensor, size: int) -> Tensor:
    """log Γ((df + size) / 2) − log Γ(df / 2), in df's dtype.

    Of a million degrees of freedom each term is 10⁷, where float32 counts in units: the difference is taken in float64.
    """
    half = 0.5 * df.double()
    return (torch.lgamma(half + 0.5 * size) - torch.lgamma(half)).to(df.dtype)


class PreciseStudentT(StudentT):
    """Pyro's Student-t, as precise in float32 for any degrees of freedom."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density; Bishop (2006), eq. 2.159."""
        if self._validate_args:
            self._validate_sample(value)
        squared = ((value - self.loc) / self.scale).square()
        log_normaliser = log_gamma_ratio(self.df, 1) - 0.5 * (self.df.log() + math.log(math.pi)) - self.scale.log()
        return log_normaliser - 0.5 * (self.df + 1.0) * torch.log1p(squared / self.df)


class SharedStudentT(MultivariateStudentT):
    """Pyro's multivariate Student-t, whitened by one matrix a component however many objects it is expanded to.

    Pyro solves a triangular system of its own for every object of an expanded batch, and stores N K P² numbers.
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of rows [..., P]; Bishop (2006), eq. B.68."""
        if self._validate_args:
            self._validate_sample(value)
        root, size = self._unbroadcasted_scale_tril, self.loc.shape[-1]
        identity = torch.eye(size, dtype=root.dtype, device=root.device)
        whitening = torch.linalg.solve_triangular(root, identity, upper=False)
        distance = torch.einsum("...pq,...q->...p", whitening, value - self.loc).square().sum(-1)
        log_normaliser = (
            log_gamma_ratio(self.df, size)
            - 0.5 * size * (self.df.log() + math.log(math.pi))
            - root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        )
        return log_normaliser - 0.5 * (self.df + size) * torch.log1p(distance / self.df)
