"""The conjugate prior of a Gaussian density with unknown mean and precision, as a value: what its forms share."""

from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

# Not typing.Self, which run-time type checkers refuse in methods.
Structure = TypeVar("Structure", bound="NormalWishart")


class GaussianStatistics(NamedTuple):
    """Sums over objects weighted by responsibilities, float64; yy has the form of the precision's scale."""

    r: Tensor  # Σ r [..., K]
    y: Tensor  # Σ r y [..., K, P]
    yy: Tensor  # Σ r y y' [..., K, P, P] if full, Σ r y² [..., K, P] if diagonal, its mean over columns if spherical

    @property
    def counts(self) -> Tensor:
        """Σ r [..., K], at least zero in the statistics of any rows."""
        return self.r


class NormalWishart(NamedTuple):
    """μ | Λ ~ Normal(mean, (mean_precision Λ)⁻¹) with E[Λ] = degrees · scale⁻¹, for every component, float64.

    A subclass gives the form of Λ: any positive definite matrix, a diagonal, or a multiple of the identity. In all
    three ``degrees`` counts objects and ``scale`` is in squared units of y, so the update is the same: an object adds
    one to the degrees, and the square of its distance, in the form of the scale, to the scale. Fields have any leading
    axes.
    """

    mean: Tensor  # m [..., K, P]
    mean_precision: Tensor  # β [..., K]
    degrees: Tensor  # ν [..., K]
    scale: Tensor  # Ψ [..., K, P, P], [..., K, P] or [..., K]

    @property
    def n_outputs(self) -> int:
        """P, the number of columns of y."""
        return self.mean.shape[-1]

    @property
    def n_parameters(self) -> int:
        """Number of free parameters of all components."""
        return self.mean.numel() + self.scale.numel()

    @staticmethod
    def checked_scale(name: str, value: object, n_outputs: int) -> Tensor:
        """Return a component's scale, float64, if it has the form and is positive.

        Args:
            name: of the argument, for messages.
            value: what a user gives.
            n_outputs: P.

        Raises:
            TypeError: if it is not made of numbers.
            ValueError: if the form does not fit, or it is not positive.
        """
        raise NotImplementedError

    @staticmethod
    def least_degrees(n_outputs: int) -> float:
        """Return the number that ν must exceed for the prior to be a density.

        Args:
            n_outputs: P.
        """
        return 0.0

    @property
    def degrees_without_covariance(self) -> float:
        """What ν must exceed for E[Λ⁻¹] = scale / (ν − this) to exist."""
        raise NotImplementedError

    @staticmethod
    def product(a: Tensor, b: Tensor) -> Tensor:
        """Return ½ (a b' + b a') of vectors, in the form of the scale.

        Args:
            a: [..., P].
            b: [..., P].
        """
        raise NotImplementedError

    @staticmethod
    def mended(squares: Tensor) -> Tensor:
        """Return a sum of squares that was computed as a difference, without negative squares from rounding.

        Args:
            squares: in the form of the scale.
        """
        return squares.clamp_min(0.0)

    @staticmethod
    def representable(scale: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the scale in a dtype, positive definite also where rounding would not leave it so.

        Args:
            scale: float64.
            dtype: a floating one.
        """
        return scale.to(dtype)

    @staticmethod
    def matrices(values: Tensor, n_outputs: int) -> Tensor:
        """Return matrices [..., P, P] of scales, covariances or their roots.

        Args:
            values: in the form of the scale.
            n_outputs: P.
        """
        raise NotImplementedError

    @staticmethod
    def normal(mean: Tensor, spread: Tensor) -> TorchDistributionMixin:
        """Return Normal(mean, Λ⁻¹), event shape [P].

        Args:
            mean: [..., P].
            spread: a root of Λ⁻¹ in the form of the scale, with the same leading axes.
        """
        raise NotImplementedError

    @classmethod
    def statistics(cls, columns: Float[Tensor, "F N"], responsibilities: Float[Tensor, "*R K N"]) -> GaussianStatistics:
        """Return Σ r, Σ r y and Σ r y y', float64; Bishop (2006), eq. 10.51 to 10.53.

        Args:
            columns: ones, then those of y, as rows [1 + P, N].
            responsibilities: [..., K, N].
        """
        raise NotImplementedError

    @classmethod
    def statistics_of_gram(cls, sums: Float[Tensor, "*R K F F"]) -> GaussianStatistics:
        """Return the statistics from Σ r [1, y][1, y]'.

        Args:
            sums: float64.
        """
        raise NotImplementedError

    @property
    def root_of_precision(self) -> Tensor:
        """R with R'R = E[Λ] [..., K, P, P]."""
        raise NotImplementedError

    def squared_distances(self, columns: Float[Tensor, "F N"]) -> Float[Tensor, "*R K N"]:
        """Return (y − mean)' E[Λ] (y − mean) [..., K, N], in the columns' dtype.

        Args:
            columns: ones, then those of y, as rows [1 + P, N].
        """
        raise NotImplementedError

    def squared_norm(self, vectors: Tensor) -> Tensor:
        """Return v' scale⁻¹ v [..., K].

        Args:
            vectors: a vector v for each component [..., K, P].
        """
        raise NotImplementedError

    @property
    def expected_log_determinant(self) -> Tensor:
        """E log |Λ| [..., K]."""
        raise NotImplementedError

    def precision_kl(self: Structure, prior: Structure) -> Tensor:
        """Return KL of each component's Λ from its prior in nats [..., K], or of the one Λ [..., 1].

        Args:
            prior: of the same form.
        """
        raise NotImplementedError

    def predictive(self, dtype: torch.dtype) -> TorchDistributionMixin:
        """Return the predictive distribution of y, batch shape [K] and event shape [P].

        Args:
            dtype: of its parameters.
        """
        raise NotImplementedError

    def sample_spread(self, prefix: str, dtype: torch.dtype) -> Tensor:
        """Sample Λ at Pyro sites, and return a root of Λ⁻¹ in the form of the scale.

        Args:
            prefix: of the sites' names.
            dtype: of the draws.
        """
        raise NotImplementedError

    def per_component(self, values: Tensor) -> Tensor:
        """Return a number for each component, shaped to multiply the scale.

        Args:
            values: [..., K].
        """
        return values.reshape(*values.shape, *(1 for _ in range(self.scale.ndim - self.degrees.ndim)))

    @property
    def covariance(self) -> Tensor:
        """E[Λ⁻¹] [..., K, P, P], infinite where there are too few degrees of freedom for it to exist."""
        excess = self.per_component(self.degrees - self.degrees_without_covariance)
        return self.matrices(torch.where(excess > 0.0, self.scale / excess, torch.inf), self.n_outputs)

    def updated(self: Structure, seen: GaussianStatistics) -> Structure:
        """Return the posterior of this prior; Bishop (2006), eq. 10.60 to 10.63.

        Args:
            seen: sums over the objects, with any leading axes.
        """
        precision = self.mean_precision + seen.r
        mean = (self.mean_precision.unsqueeze(-1) * self.mean + seen.y) / precision.unsqueeze(-1)
        # Distances from the posterior mean, and of that from the prior's, each a sum of squares: a small one keeps its
        # digits.
        residual = seen.yy - 2.0 * self.product(mean, seen.y) + self.per_component(seen.r) * self.product(mean, mean)
        scale = self.scale + self.mended(residual) + self._distance(mean)
        return type(self)(mean, precision, self.degrees + seen.r, self.representable(scale, scale.dtype))

    def statistics_beyond(self: Structure, prior: Structure) -> GaussianStatistics:
        """Return the statistics that lead from a prior to this posterior: its natural parameters less the prior's.

        Args:
            prior: with or without the leading axes.
        """
        mean, r = self.mean, self.mean_precision - prior.mean_precision
        y = self.mean_precision.unsqueeze(-1) * mean - prior.mean_precision.unsqueeze(-1) * prior.mean
        residual = self.scale - prior.scale - prior._distance(mean)
        yy = residual + 2.0 * self.product(mean, y) - self.per_component(r) * self.product(mean, mean)
        return GaussianStatistics(r, y, yy)

    def kl(self: Structure, prior: Structure) -> Float[Tensor, "*R"]:
        """Return KL(self ‖ prior) in nats, summed over components.

        Args:
            prior: with or without the leading axes.
        """
        ratio = prior.mean_precision / self.mean_precision
        distance = prior.mean_precision * self.degrees * self.squared_norm(self.mean - prior.mean)
        of_means = 0.5 * (distance + self.n_outputs * (ratio - 1.0 - ratio.log()))
        return of_means.sum(-1) + self.precision_kl(prior).sum(-1)

    def _distance(self, mean: Tensor) -> Tensor:
        """Return β₀ (m − m₀)(m − m₀)' of this prior's m₀, in the form of the scale."""
        difference = mean - self.mean
        return self.per_component(self.mean_precision) * self.product(difference, difference)
