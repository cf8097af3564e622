"""Linear response of coefficients under a Normal distribution, by automatic differentiation."""

from functools import cached_property

import torch
from torch import Tensor

from mixpyro.conjugate.normal import NormalCoefficients
from mixpyro.conjugate.responses.base import Response
from mixpyro.numerics.cholesky import cholesky


class NormalResponse(Response):
    """Quantities c, the coefficients of all blocks; what an object says is no polynomial in them.

    Args:
        value: without leading axes.
    """

    is_closed = False

    def __init__(self, value: NormalCoefficients) -> None:
        self.value = value
        self.n_components = value.mean.shape[-2]
        self.n_common, self.n_own = value.mean.numel(), 0

    @property
    def quantities(self) -> Tensor:
        """E c [BQ]."""
        return self.value.mean.flatten()

    @cached_property
    def covariance(self) -> Tensor:
        """Λ⁻¹ of each block, on the diagonal of a matrix of all [BQ, BQ]."""
        return torch.block_diag(*self.value.covariance)

    @property
    def loadings(self) -> Tensor:
        """Lower Cholesky factor of the covariance."""
        return cholesky(self.covariance)

    @property
    def covariance_beyond(self) -> Tensor:
        """Zero: the coefficients follow their mean."""
        return torch.zeros_like(self.covariance)

    def expected_log_prior(self, prior: NormalCoefficients) -> Tensor:
        """Return E log p(c), up to a constant.

        Args:
            prior: without leading axes.
        """
        deviation = self.value.mean - prior.mean
        distance = ((prior.precision @ deviation.unsqueeze(-1)).squeeze(-1) * deviation).sum()
        return -0.5 * (distance + (prior.precision * self.value.covariance).sum())
