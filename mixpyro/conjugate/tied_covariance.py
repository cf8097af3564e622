"""Gaussian densities of one precision matrix, which all components share."""

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.conjugate.full_covariance import Full
from mixpyro.conjugate.normal_wishart import GaussianStatistics
from mixpyro.distributions.student_t import SharedStudentT
from mixpyro.numerics.cholesky import inverted
from mixpyro.numerics.weighted_sums import squared_norms


class Tied(Full):
    """Λ ~ Wishart(Ψ⁻¹, ν) for all components, μₖ | Λ ~ Normal(mₖ, (βₖ Λ)⁻¹) independent given Λ.

    The fields ``degrees`` and ``scale`` have a component axis of length one. All objects add to them: the posterior has
    ν = ν₀ + Σ r and Ψ = Ψ₀ plus the squares of all components.
    """

    def untied(self) -> Full:
        """Return the distribution of each component's μ and Λ, [..., K] of every field."""
        mean = self.mean
        degrees = self.degrees.expand(mean.shape[:-1])
        return Full(mean, self.mean_precision, degrees, self.scale.expand(*mean.shape, mean.shape[-1]))

    @property
    def covariance(self) -> Tensor:
        """E[Λ⁻¹] [..., K, P, P], the same for every component."""
        return self.untied().covariance

    def updated(self, seen: GaussianStatistics) -> "Tied":
        """Return the posterior of this prior.

        Args:
            seen: sums over the objects, with any leading axes.
        """
        precision = self.mean_precision + seen.r
        mean = (self.mean_precision.unsqueeze(-1) * self.mean + seen.y) / precision.unsqueeze(-1)
        squares = self.mended(self._residuals(mean, seen.r, seen.y, seen.yy).sum(-3, keepdim=True))
        scale = self.scale + squares + self._distances(mean)
        degrees = self.degrees + seen.r.sum(-1, keepdim=True)
        return type(self)(mean, precision, degrees, self.representable(scale, scale.dtype))

    def statistics_beyond(self, prior: "Tied") -> GaussianStatistics:
        """Return the statistics that lead from a prior to this posterior, the squares shared evenly by components.

        Args:
            prior: with or without the leading axes.
        """
        r = self.mean_precision - prior.mean_precision
        y = self.mean_precision.unsqueeze(-1) * self.mean - prior.mean_precision.unsqueeze(-1) * prior.mean
        residual = self.scale - prior.scale - prior._distances(self.mean)
        nothing = torch.zeros_like(residual)
        yy = residual / self.mean.shape[-2] - self._residuals(self.mean, r, y, nothing)
        return GaussianStatistics(r, y, yy)

    def squared_distances(self, columns: Float[Tensor, "F N"]) -> Float[Tensor, "*R K N"]:
        """Return |√ν L⁻¹ (y − m)|² with Ψ = L L', of all components by one matrix product."""
        whitening = inverted(self.factor) * self.degrees.sqrt()[..., None, None]
        of_mean = -whitening @ self.mean.unsqueeze(-1)
        maps = torch.cat([of_mean, whitening.expand(*self.mean.shape, -1)], dim=-1)
        return squared_norms(maps.flatten(0, -3), columns).mT.unflatten(0, self.mean.shape[:-1])

    def predictive(self, dtype: torch.dtype) -> SharedStudentT:
        """Return a Student-t of ν − P + 1 degrees of freedom."""
        return self.untied().predictive(dtype)

    def _distances(self, mean: Tensor) -> Tensor:
        """Return Σₖ β₀ (m − m₀)(m − m₀)' of this prior's m₀ [..., 1, P, P]."""
        return self._distance(mean).sum(-3, keepdim=True)

    def _residuals(self, mean: Tensor, r: Tensor, y: Tensor, yy: Tensor) -> Tensor:
        """Return Σ r (y − m)(y − m)' of every component [..., K, P, P]."""
        return yy - 2.0 * self.product(mean, y) + self.per_component(r) * self.product(mean, mean)
