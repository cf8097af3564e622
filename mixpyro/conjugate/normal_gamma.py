"""The conjugate prior of a linear regression with unknown noise, and its algebra."""

import math
from typing import NamedTuple

import torch
from pyro.distributions import Gamma
from torch import Tensor
from torch.distributions import kl_divergence

from mixpyro.numerics.cholesky import cholesky, inverted, log_determinants
from mixpyro.numerics.origin import Origin
from mixpyro.numerics.weighted_sums import quadratic_forms, squared_norms
from mixpyro.shapes import Design, Responsibilities, Scalar


class LinearStatistics(NamedTuple):
    """Sums over objects weighted by responsibilities, float64, for a design u of E columns and outputs y."""

    r: Tensor  # Σ r [K]
    uu: Tensor  # Σ r u u' [K, E, E]
    uy: Tensor  # Σ r u y' [K, E, P]
    yy: Tensor  # Σ r y² [K, P]


class NormalGamma(NamedTuple):
    """w | τ ~ Normal(mean, (τ precision)⁻¹), τ ~ Gamma(shape, rate), for every component and output, float64.

    One τ may serve all components, all outputs, or all of both: those axes of its shape and rate have length one.
    """

    mean: Tensor  # [K, P, E]
    precision: Tensor  # [K, E, E], the same for every output
    shape: Tensor  # [K], or [1] where components share their τ
    rate: Tensor  # [K, P], with an axis of length one where τ is shared

    def posterior(self, seen: LinearStatistics) -> "NormalGamma":
        """The posterior of this prior; Murphy (2012), eq. 7.70 to 7.73."""
        precision = self.precision + seen.uu
        target = _times(self.precision, self.mean) + seen.uy
        mean = torch.cholesky_solve(target, cholesky(precision)).mT
        # b₀ + ½ (squared residuals + distance from the prior): a sum of squares each, so that neither hides the other.
        residual = seen.yy - 2.0 * (mean * seen.uy.mT).sum(-1) + _square(mean, seen.uu)
        distance = _square(mean - self.mean, self.precision)
        rate = self.rate + 0.5 * (self._pooled(residual).clamp_min(0.0) + self._pooled(distance))
        counts = self._pooled(seen.r.unsqueeze(-1).expand_as(residual))[:, 0]
        return NormalGamma(mean, precision, self.shape + 0.5 * counts, rate)

    def _pooled(self, values: Tensor) -> Tensor:
        """Values [K, P], summed over the components and outputs that share a τ."""
        return values.sum_to_size(self.rate.shape)

    def statistics_behind(self, posterior: "NormalGamma") -> LinearStatistics:
        """Statistics that lead from this prior to ``posterior``: its natural parameters less the prior's.

        What is known of a shared τ alone is divided evenly among those who share it.
        """
        mean, uu = posterior.mean, posterior.precision - self.precision
        uy = _times(posterior.precision, mean) - _times(self.precision, self.mean)
        n_sharing = mean[..., 0].numel() // self.rate.numel()
        counts = 2.0 * (posterior.shape - self.shape) / n_sharing
        residual = 2.0 * (posterior.rate - self.rate) - self._pooled(_square(mean - self.mean, self.precision))
        yy = residual / n_sharing + 2.0 * (mean * uy.mT).sum(-1) - _square(mean, uu)
        return LinearStatistics(counts.expand(len(mean)), uu, uy, yy)

    def kl_divergence(self, prior: "NormalGamma") -> Scalar:
        """KL(self ‖ prior), summed over components and outputs; a shared τ counts once."""
        return self.divergences(prior).sum()

    def divergences(self, prior: "NormalGamma") -> Tensor:
        """KL(self ‖ prior) of each component [K], or of all [1] where they share their τ."""
        distance = _square(self.mean - prior.mean, prior.precision)
        factor, of_prior = cholesky(self.precision), cholesky(prior.precision)
        trace = (inverted(factor) @ of_prior).square().sum((-2, -1))
        log_ratio = log_determinants(factor) - log_determinants(of_prior)
        spread = (trace - self.mean.shape[-1] + log_ratio).unsqueeze(-1)
        normal = 0.5 * (self.expected_noise_precision * distance + spread)
        # Where sums have overflowed the rate is no number, nor is the result: that is for the caller to see.
        own, given = (Gamma(p.shape.unsqueeze(-1), p.rate, validate_args=False) for p in (self, prior))
        noise = kl_divergence(own, given)
        return (self._pooled(normal) + noise).sum(-1)

    def from_origin(self, origin: Origin) -> "NormalGamma":
        """The same distribution for x and y counted from ``origin``, this one being that for x and y as they are."""
        shift = origin.shift
        mean = (self.mean - origin.offset) @ origin.back.mT
        return self._replace(mean=mean, precision=shift.mT @ self.precision @ shift)

    def from_zero(self, origin: Origin) -> "NormalGamma":
        """The way back from :meth:`from_origin`."""
        shift, back = origin.shift, origin.back
        return self._replace(mean=self.mean @ shift.mT + origin.offset, precision=back.mT @ self.precision @ back)

    @property
    def expected_noise_precision(self) -> Tensor:
        """E τ = a / b, in the shape of the rate."""
        return self.shape.unsqueeze(-1) / self.rate

    @property
    def expected_noise_variance(self) -> Tensor:
        """E 1/τ = b / (a − 1), in the shape of the rate; infinite where a ≤ 1."""
        return self.rate / (self.shape - 1.0).clamp_min(0.0).unsqueeze(-1)

    def leverage(self, u: Design) -> Responsibilities:
        """u'Λ⁻¹u [N, K], as a sum of squares so that it is never negative."""
        return squared_norms(self._whitening, u.mT)

    def expected_squared_residuals(self, columns: Tensor, precision: Tensor) -> Responsibilities:
        """Σₚ τₚ (yₚ − mₚ'u)² + P u'Λ⁻¹u [N, K].

        A sum of squares of linear functions of u and y. Of float32 data and more components than u has columns, the
        second term is a quadratic form, in float64, which takes less; in data of float64 its terms could cancel.

        Args:
            columns: of u and y, as rows [E + P, N].
            precision: τ [K, P].
        """
        n_components, n_outputs, n_columns = self.mean.shape
        root = precision.sqrt()
        of_residual = torch.cat([-root.unsqueeze(-1) * self.mean, root.diag_embed()], dim=-1)
        if n_components > n_columns and columns.dtype == torch.float32:
            inverse = n_outputs * self._whitening.mT @ self._whitening
            return squared_norms(of_residual, columns) + quadratic_forms(inverse, columns[:n_columns])
        whitening = math.sqrt(n_outputs) * self._whitening
        of_u = torch.cat([whitening, whitening.new_zeros(*whitening.shape[:2], n_outputs)], dim=-1)
        return squared_norms(torch.cat([of_u, of_residual], dim=1), columns)

    @property
    def _whitening(self) -> Tensor:
        """The inverse of Λ's lower Cholesky factor [K, E, E]."""
        return inverted(cholesky(self.precision))


def _times(precision: Tensor, mean: Tensor) -> Tensor:
    """Λ m [K, E, P]."""
    return precision @ mean.mT


def _square(vector: Tensor, matrix: Tensor) -> Tensor:
    """v' M v [K, P]."""
    return (vector @ matrix * vector).sum(-1)
