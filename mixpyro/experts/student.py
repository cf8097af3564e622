"""A multivariate Student-t that many objects share."""

import math

import torch
from pyro.distributions import MultivariateStudentT
from torch import Tensor


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
            torch.lgamma(0.5 * (self.df + size))
            - torch.lgamma(0.5 * self.df)
            - 0.5 * size * (self.df.log() + math.log(math.pi))
            - root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        )
        return log_normaliser - 0.5 * (self.df + size) * torch.log1p(distance / self.df)
