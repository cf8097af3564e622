"""Linear response of regressions that have coefficients in common."""

import torch
from torch import Tensor

from mixpyro.conjugate.responses.normal_gamma import NormalGammaResponse
from mixpyro.conjugate.stacked_regressions import StackedNormalGamma, Stacking
from mixpyro.numerics.design_matrix import StackedOrigin


class StackedResponse(NormalGammaResponse):
    """One regression on columns side by side; quantities are own coefficients, common ones, then log τ.

    Own coefficients are [K, P, Eₒ] and common ones [P, Eₛ], as the sites of the experts are.

    Args:
        value: without leading axes.
        origin: from which x and y are counted, of the stacked coefficients.
        stacking: which column is whose.
    """

    is_closed = False

    def __init__(self, value: StackedNormalGamma, origin: StackedOrigin, stacking: Stacking) -> None:
        super().__init__(value, origin)
        size, n_own = self.n_outputs * self.n_columns, stacking.n_components * len(stacking.own)
        number = torch.arange(size, device=value.mean.device).reshape(self.n_outputs, self.n_columns)
        own = number[:, :n_own].unflatten(1, (stacking.n_components, -1)).movedim(1, 0)
        noises = torch.arange(size, size + value.rate.numel(), device=value.mean.device)
        self._order = torch.cat([own.flatten(), number[:, n_own:].flatten(), noises])

    @property
    def quantities(self) -> Tensor:
        """E w for x and y as they are, then E log τ."""
        return super().quantities[self._order]

    @property
    def covariance(self) -> Tensor:
        """Λ⁻¹ E 1/τ of the coefficients of each output, and ψ'(a) of log τ."""
        return super().covariance[self._order][:, self._order]

    @property
    def loadings(self) -> Tensor:
        """Covariances of the quantities with the coordinates."""
        return super().loadings[self._order]
