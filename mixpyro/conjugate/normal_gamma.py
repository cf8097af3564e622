"""The conjugate prior of a linear regression with unknown noise, as a value."""

import math
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.conjugate.gamma import Gamma
from mixpyro.numerics.cholesky import cholesky, inverted, log_determinants
from mixpyro.numerics.design_matrix import Origin
from mixpyro.numerics.weighted_sums import quadratic_forms, squared_norms


class LinearStatistics(NamedTuple):
    """Sums over objects weighted by responsibilities, float64, for a design u of E columns and P outputs y."""

    r: Tensor  # Σ r [..., K]
    uu: Tensor  # Σ r u u' [..., K, E, E]
    uy: Tensor  # Σ r u y' [..., K, E, P]
    yy: Tensor  # Σ r y² [..., K, P]

    @property
    def counts(self) -> Tensor:
        """Σ r [..., K], at least zero in the statistics of any rows."""
        return self.r


class NormalGammaFields(NamedTuple):
    """Parameters of a :class:`NormalGamma`, which can keep what it computes from them where a NamedTuple cannot."""

    mean: Tensor  # m [..., K, P, E]
    precision: Tensor  # Λ [..., K, E, E], the same for every output
    shape: Tensor  # a [..., K or 1]
    rate: Tensor  # b [..., K or 1, P or 1]


class NormalGamma(NormalGammaFields):
    """w | τ ~ Normal(mean, (τ precision)⁻¹), τ ~ Gamma(shape, rate), for every component and output, float64.

    Fields have any leading axes. Where components or outputs share one τ, that axis of its shape and rate has length
    one.
    """

    @cached_property
    def factor(self) -> Tensor:
        """Lower Cholesky factor of Λ [..., K, E, E]."""
        return cholesky(self.precision)

    @cached_property
    def whitening(self) -> Tensor:
        """The inverse of :attr:`factor` [..., K, E, E]."""
        return inverted(self.factor)

    @property
    def noise(self) -> Gamma:
        """The distribution of τ, in the shape of the rate."""
        return Gamma(self.shape.unsqueeze(-1), self.rate)

    @property
    def expected_noise_variance(self) -> Tensor:
        """E 1/τ = b / (a − 1), in the shape of the rate; infinite where a ≤ 1."""
        return self.rate / (self.shape - 1.0).clamp_min(0.0).unsqueeze(-1)

    @property
    def n_parameters(self) -> int:
        """Number of coefficients and noises of all components; a shared noise counts once."""
        return self.mean.numel() + self.rate.numel()

    def updated(self, seen: LinearStatistics) -> "NormalGamma":
        """Return the posterior of this prior; Murphy (2012), eq. 7.70 to 7.73.

        Args:
            seen: sums over the objects, with any leading axes.
        """
        precision = self.precision + seen.uu
        target = _times(self.precision, self.mean) + seen.uy
        mean = torch.cholesky_solve(target, cholesky(precision)).mT
        # b₀ + ½ (squared residuals + distance from the prior), each a sum of squares: a small one keeps its digits.
        residual = seen.yy - 2.0 * (mean * seen.uy.mT).sum(-1) + _square(mean, seen.uu)
        distance = _square(mean - self.mean, self.precision)
        rate = self.rate + 0.5 * (self._pooled(residual).clamp_min(0.0) + self._pooled(distance))
        counts = self._pooled(seen.r.unsqueeze(-1).expand_as(residual))[..., 0]
        return NormalGamma(mean, precision, self.shape + 0.5 * counts, rate)

    def statistics_beyond(self, prior: "NormalGamma") -> LinearStatistics:
        """Return the statistics that lead from a prior to this posterior: its natural parameters less the prior's.

        What they have of a shared τ is divided evenly among the components and outputs that share it.

        Args:
            prior: with or without the leading axes.
        """
        mean, uu = self.mean, self.precision - prior.precision
        uy = _times(self.precision, mean) - _times(prior.precision, prior.mean)
        n_sharing = mean[..., 0].numel() // self.rate.numel()
        counts = 2.0 * (self.shape - prior.shape) / n_sharing
        distance = self._pooled(_square(mean - prior.mean, prior.precision))
        residual = (2.0 * (self.rate - prior.rate) - distance) / n_sharing
        yy = residual + 2.0 * (mean * uy.mT).sum(-1) - _square(mean, uu)
        return LinearStatistics(counts.expand(mean.shape[:-2]), uu, uy, yy)

    def kl(self, prior: "NormalGamma") -> Float[Tensor, "*R"]:
        """Return KL(self ‖ prior) in nats, summed over components and outputs; a shared τ counts once.

        Args:
            prior: with or without the leading axes.
        """
        distance = _square(self.mean - prior.mean, prior.precision)
        trace = (self.whitening @ prior.factor).square().sum((-2, -1))
        log_ratio = log_determinants(self.factor) - log_determinants(prior.factor)
        spread = (trace - self.mean.shape[-1] + log_ratio).unsqueeze(-1)
        normal = 0.5 * (self.noise.mean * distance + spread)
        return normal.sum((-2, -1)) + self.noise.kl(prior.noise).sum((-2, -1))

    def expected_squared_residuals(self, columns: Float[Tensor, "F N"]) -> Float[Tensor, "*R K N"]:
        """Return E Σₚ τₚ (yₚ − wₚ'u)² = Σₚ E τₚ (yₚ − mₚ'u)² + P u'Λ⁻¹u [..., K, N], in the columns' dtype.

        The result is a sum of squares of linear functions of u and y. For float32 data and more components than u has
        columns the second term is a quadratic form in float64, which is faster; for float64 data it could cancel.

        Args:
            columns: of u and y, as rows [E + P, N].
        """
        n_outputs, n_columns = self.mean.shape[-2:]
        root = self.noise.mean.sqrt().expand(self.mean.shape[:-1])
        of_residual = torch.cat([-root.unsqueeze(-1) * self.mean, root.diag_embed()], dim=-1).flatten(0, -3)
        whitening = math.sqrt(n_outputs) * self.whitening.flatten(0, -3)
        if len(whitening) > n_columns and columns.dtype == torch.float32:
            leverages = quadratic_forms(whitening.mT @ whitening, columns[:n_columns])
            squares = squared_norms(of_residual, columns) + leverages
        else:
            of_u = torch.cat([whitening, whitening.new_zeros(*whitening.shape[:2], n_outputs)], dim=-1)
            squares = squared_norms(torch.cat([of_u, of_residual], dim=1), columns)
        return squares.mT.unflatten(0, self.mean.shape[:-2])

    def distance_from(self, prior: "NormalGamma") -> Tensor:
        """Return (m − m₀)'Λ₀(m − m₀), summed over what shares a τ, in the shape of the rate.

        Args:
            prior: with mean m₀ and precision Λ₀.
        """
        return self._pooled(_square(self.mean - prior.mean, prior.precision))

    def leverage(self, u: Float[Tensor, "E N"]) -> Float[Tensor, "*R K N"]:
        """Return u'Λ⁻¹u [..., K, N], as a sum of squares so that it is never negative.

        Args:
            u: columns of the design matrix as rows [E, N].
        """
        return squared_norms(self.whitening.flatten(0, -3), u).mT.unflatten(0, self.mean.shape[:-2])

    def from_origin(self, origin: Origin) -> "NormalGamma":
        """Return the same distribution for x and y counted from an origin.

        Args:
            origin: this distribution's x and y are counted from zero.
        """
        shift = origin.shift
        mean = (self.mean - origin.offset) @ origin.back.mT
        return self._replace(mean=mean, precision=shift.mT @ self.precision @ shift)

    def from_zero(self, origin: Origin) -> "NormalGamma":
        """Return the same distribution for x and y counted from zero.

        Args:
            origin: where this distribution's x and y are counted from.
        """
        shift, back = origin.shift, origin.back
        return self._replace(mean=self.mean @ shift.mT + origin.offset, precision=back.mT @ self.precision @ back)

    def _pooled(self, values: Tensor) -> Tensor:
        """Sum [..., K, P] over the components and outputs that share a τ."""
        return values.sum_to_size(*values.shape[:-2], *self.rate.shape[-2:])


def _times(precision: Tensor, mean: Tensor) -> Tensor:
    """Return Λ m [..., K, E, P]."""
    return precision @ mean.mT


def _square(vector: Tensor, matrix: Tensor) -> Tensor:
    """Return v' M v [..., K, P]."""
    return (vector @ matrix * vector).sum(-1)
