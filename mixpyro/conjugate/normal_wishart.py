"""The conjugate prior of a Gaussian density with unknown mean and precision, and the algebra that structures share."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from mixpyro.shapes import Responsibilities, Scalar

# Rows worked on together: what a block holds, K P numbers a row, stays in a cache.
BLOCK_ROWS = 2048

# Not typing.Self, which run-time type checkers refuse in methods.
Structure = TypeVar("Structure", bound="NormalWishart")


class GaussianStatistics(NamedTuple):
    """Sums over objects weighted by responsibilities, float64; yy has the form of the structure's scale."""

    r: Tensor  # Σ r [K]
    y: Tensor  # Σ r y [K, P]
    yy: Tensor  # Σ r y y' [K, P, P] if full, Σ r y² [K, P] if diagonal, its mean over columns [K] if spherical


@dataclass(frozen=True)
class NormalWishart:
    """μ | Λ ~ Normal(mean, (mean_precision Λ)⁻¹) with E[Λ] = degrees · scale⁻¹, for every component, float64.

    What Λ looks like is the subclass's: any positive definite matrix, a diagonal, a multiple of the identity. All three
    count ``degrees`` in objects and ``scale`` in squared units of y, so the update is the same: an object adds one to
    the degrees, and the square of its distance, in the structure's form, to the scale.
    """

    mean: Tensor  # m [K, P]
    mean_precision: Tensor  # β [K]
    degrees: Tensor  # ν [K]
    scale: Tensor  # Ψ [K, P, P], [K, P] or [K]

    @property
    def n_outputs(self) -> int:
        """P."""
        return self.mean.shape[-1]

    @staticmethod
    def checked_scale(name: str, value: object, n_outputs: int) -> Tensor:
        """Return what a user gives as a component's scale, float64, in the structure's form."""
        raise NotImplementedError

    @staticmethod
    def least_degrees(n_outputs: int) -> float:
        """What the degrees of freedom must be above for the prior to be a density."""
        return 0.0

    @staticmethod
    def n_parameters(n_outputs: int) -> int:
        """How many free parameters a component's precision has."""
        raise NotImplementedError

    @staticmethod
    def product(a: Tensor, b: Tensor) -> Tensor:
        """½ (a b' + b a') of rows [K, P], in the structure's form."""
        raise NotImplementedError

    @staticmethod
    def mended(squares: Tensor) -> Tensor:
        """A sum of squares that was computed as a difference, without what rounding must not have left in it."""
        return squares.clamp_min(0.0)

    @staticmethod
    def representable(scale: Tensor, dtype: torch.dtype) -> Tensor:
        """The scale in a dtype, positive definite also where rounding would not leave it so."""
        return scale.to(dtype)

    def per_component(self, values: Tensor) -> Tensor:
        """Values [K], to multiply a scale with."""
        return values.reshape(-1, *(1 for _ in self.scale.shape[1:]))

    def squared_distances(self, columns: Tensor) -> Responsibilities:
        """(y − mean)' E[Λ] (y − mean) [N, K] of columns of y [P, N], in their dtype."""
        raise NotImplementedError

    @classmethod
    def statistics(cls, r: Responsibilities, columns: Tensor) -> GaussianStatistics:
        """Σ r, Σ r y and Σ r y y' of columns of y [P, N], float64; Bishop (2006), eq. 10.51 to 10.53."""
        raise NotImplementedError

    def squared_norm(self, vectors: Tensor) -> Tensor:
        """v' scale⁻¹ v [K] of a vector a component [K, P]."""
        raise NotImplementedError

    @cached_property
    def expected_log_determinant(self) -> Tensor:
        """E log |Λ| [K]."""
        raise NotImplementedError

    def precision_kl_divergence(self: Structure, prior: Structure) -> Tensor:
        """KL of each component's Λ from that of ``prior`` [K]."""
        raise NotImplementedError

    @property
    def lost_degrees(self) -> float:
        """What E[Λ⁻¹] = scale / (degrees − lost_degrees) has less than the degrees."""
        raise NotImplementedError

    def predictive(self, dtype: torch.dtype) -> TorchDistributionMixin:
        """Predictive distribution of y, batch shape [K] and event shape [P]."""
        raise NotImplementedError

    def sample_spread(self, prefix: str, dtype: torch.dtype) -> Tensor:
        """Sample Λ at Pyro sites that begin with ``prefix``, and return a root of Λ⁻¹, of the form of the scale."""
        raise NotImplementedError

    @staticmethod
    def matrices(values: Tensor, n_outputs: int) -> Tensor:
        """Matrices [..., P, P] of scales, covariances or their roots in the structure's form."""
        raise NotImplementedError

    @staticmethod
    def normal(mean: Tensor, spread: Tensor) -> TorchDistributionMixin:
        """Normal(mean, Λ⁻¹) of rows [..., P], for a root of Λ⁻¹ with the same leading axes."""
        raise NotImplementedError

    def covariance(self) -> Tensor:
        """E[Λ⁻¹] [K, P, P], infinite where there are too few degrees of freedom for it to exist."""
        excess = self.per_component(self.degrees - self.lost_degrees)
        return self.matrices(torch.where(excess > 0.0, self.scale / excess, torch.inf), self.n_outputs)

    def expected_squared_distances(self, columns: Tensor) -> Responsibilities:
        """E (y − μ)' Λ (y − μ) [N, K] of columns of y [P, N], in their dtype; Bishop (2006), eq. 10.64."""
        return self.squared_distances(columns) + (self.n_outputs / self.mean_precision).to(columns.dtype)

    def posterior(self: Structure, seen: GaussianStatistics) -> Structure:
        """The posterior of this prior; Bishop (2006), eq. 10.60 to 10.63."""
        precision = self.mean_precision + seen.r
        mean = (self.mean_precision.unsqueeze(-1) * self.mean + seen.y) / precision.unsqueeze(-1)
        # Distances from the posterior mean and of that from the prior's: two sums of squares, neither hides the other.
        residual = seen.yy - 2.0 * self.product(mean, seen.y) + self.per_component(seen.r) * self.product(mean, mean)
        scale = self.scale + self.mended(residual) + self._distance_from_prior(mean)
        return type(self)(mean, precision, self.degrees + seen.r, scale)

    def statistics_behind(self: Structure, posterior: Structure) -> GaussianStatistics:
        """The statistics that lead from this prior to ``posterior``: its natural parameters less the prior's."""
        mean, r = posterior.mean, posterior.mean_precision - self.mean_precision
        y = posterior.mean_precision.unsqueeze(-1) * mean - self.mean_precision.unsqueeze(-1) * self.mean
        residual = posterior.scale - self.scale - self._distance_from_prior(mean)
        yy = residual + 2.0 * self.product(mean, y) - self.per_component(r) * self.product(mean, mean)
        return GaussianStatistics(r, y, yy)

    def kl_divergence(self: Structure, prior: Structure) -> Scalar:
        """KL(self ‖ prior), summed over components."""
        return self.divergences(prior).sum()

    def divergences(self: Structure, prior: Structure) -> Tensor:
        """KL(self ‖ prior) of each component [K]."""
        ratio = prior.mean_precision / self.mean_precision
        distance = prior.mean_precision * self.degrees * self.squared_norm(self.mean - prior.mean)
        of_means = 0.5 * (distance + self.n_outputs * (ratio - 1.0 - ratio.log()))
        return of_means + self.precision_kl_divergence(prior)

    def _distance_from_prior(self, mean: Tensor) -> Tensor:
        """β₀ (m − m₀)(m − m₀)' in the structure's form."""
        difference = mean - self.mean
        return self.per_component(self.mean_precision) * self.product(difference, difference)
