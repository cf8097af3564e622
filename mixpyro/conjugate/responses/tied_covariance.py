"""Linear response of Gaussian densities that share one precision matrix under a Normal-Wishart distribution."""

import math

import torch
from torch import Tensor

from mixpyro.conjugate.normal_wishart import GaussianStatistics
from mixpyro.conjugate.responses.base import Features, with_infinite_variance
from mixpyro.conjugate.responses.full_covariance import FullResponse
from mixpyro.conjugate.tied_covariance import Tied


class TiedResponse(FullResponse):
    """Statistics log |Λ| and Λ in common, Λμ and μ'Λμ of each component; quantities as of a full covariance.

    Those of Λ are the same for all components, and follow once after the means [K, P].

    Args:
        value: without leading axes.
        y_origin: from which y is counted [P].
    """

    def __init__(self, value: Tied, y_origin: Tensor) -> None:
        super().__init__(value, y_origin)
        self.n_common = self.n_outputs * (self.n_outputs + 1) // 2 + 1
        self.n_own = self.n_outputs + 1

    @property
    def covariance(self) -> Tensor:
        """Ψ / (β (ν − P − 1)), then the covariances of Bartlett's parameters of the one Λ."""
        n, value = self.n_outputs, self.value
        excess, nu = (value.degrees - n - 1.0).expand(self.n_components), value.degrees
        scaled = value.scale / value.mean_precision[:, None, None]
        of_mean = with_infinite_variance(scaled / torch.where(excess > 0.0, excess, nu)[:, None, None], excess <= 0.0)
        of_log = torch.polygamma(1, value.half_degrees).flatten().diag_embed()
        rows = []
        for p in range(1, n):
            root, own = self._regression_root(0, p), excess[0] + p
            rows.append(with_infinite_variance(root @ root.mT / torch.where(own > 0.0, own, nu[0]), own <= 0.0))
        return torch.block_diag(*of_mean, of_log, *rows)

    @property
    def loadings(self) -> Tensor:
        """Covariances with the coordinates; derivatives of the means of Bartlett's parameters in Ψ at Ψ = I."""
        n, k, (nu,), beta = self.n_outputs, self.n_components, self.value.degrees, self.value.mean_precision
        found = nu.new_zeros(n * k + n * (n + 1) // 2, self.n_common + k * self.n_own)
        of_mean = found[: n * k, self.n_common :].unflatten(0, (k, n)).unflatten(2, (k, self.n_own))
        for number in range(k):
            of_mean[number, :, number, :n] = self.value.factor[0] / (nu * beta[number]).sqrt()
        of_log = found[n * k : n * (k + 1), : self.n_common]
        of_log[:, :n] = torch.eye(n, dtype=nu.dtype, device=nu.device) * (0.5 * nu).rsqrt()
        of_log[:, -1] = (torch.polygamma(1, self.value.half_degrees[0]) - 2.0 / nu) / self._excess
        for p in range(1, n):
            rows = slice(n * (k + 1) + p * (p - 1) // 2, n * (k + 1) + p * (p + 1) // 2)
            columns = slice(n + p * (p - 1) // 2, n + p * (p + 1) // 2)
            found[rows, columns] = -self._regression_root(0, p) * nu.rsqrt()
        return found

    def statistics(self, sums: Features) -> GaussianStatistics:
        """Return Σ r, Σ r y and Σ r y y', squares that are in common shared evenly.

        Args:
            sums: in common [C] and own [K, O].
        """
        n, mean, factor = self.n_outputs, self.value.mean, self.value.factor
        nu, beta = self.value.degrees, self.value.mean_precision.unsqueeze(-1)
        counts = -sums.own[:, -1:] * beta * math.sqrt(2.0 / n)
        first, second = self._below
        products = mean.new_zeros(n, n)
        products[first, second] = -sums.common[n:-1] * nu.rsqrt()
        squares = (0.5 * counts.sum() * (0.5 * nu).rsqrt() - sums.common[:n]) * (0.5 * nu).rsqrt()
        products = products + products.mT + squares.diag_embed()
        y = (factor @ (sums.own[:, :n] * (beta / nu).sqrt()).unsqueeze(-1)).squeeze(-1) + counts * mean
        of_mean = 2.0 * self.value.product(mean, y) - counts.unsqueeze(-1) * self.value.product(mean, mean)
        return GaussianStatistics(counts.squeeze(-1), y, factor @ products @ factor.mT / self.n_components + of_mean)

    def of_prior(self, prior: Tied) -> Features:  # type: ignore[override]
        """Return the features of log p(μ, Λ), in which log |Λ| counts ν₀ − P − 1 + K objects and each μ β₀.

        Args:
            prior: of the same shape.
        """
        beta = prior.mean_precision.unsqueeze(-1)
        squares = prior.scale / self.n_components + beta.unsqueeze(-1) * prior.product(prior.mean, prior.mean)
        r = (prior.degrees - self.n_outputs - 1.0) / self.n_components + 1.0
        return self._totals(r.expand(self.n_components), prior.mean_precision, beta * prior.mean, squares)

    def expected_log_prior(self, prior: Tied) -> Tensor:  # type: ignore[override]
        """Return E log p(μ, Λ), up to a constant.

        Args:
            prior: of the same shape.
        """
        q = self.value
        distance = prior.mean_precision * q.degrees * q.squared_norm(q.mean - prior.mean)
        spread = self.n_outputs * prior.mean_precision / q.mean_precision
        trace = q.degrees * (self._whitening @ prior.scale @ self._whitening.mT).diagonal(dim1=-2, dim2=-1).sum(-1)
        of_log = (prior.degrees - self.n_outputs - 1.0 + self.n_components) * q.expected_log_determinant
        return 0.5 * ((of_log - trace).sum() - (distance + spread).sum())

    def _assembled(self, counts: Tensor, mass: Tensor, z: Tensor, squares: Tensor, products: Tensor) -> Features:
        """Return features from 1 [K, N] twice, z [K, P, N], its squares, and products of pairs p > j."""
        nu, beta = self.value.degrees[:, None, None], self.value.mean_precision[:, None, None]
        common = [
            0.5 * counts.unsqueeze(1) * (0.5 * nu).rsqrt() - squares * (0.5 * nu).sqrt(),
            -products * nu.sqrt(),
            0.5 * self._excess[:, None, None] * counts.unsqueeze(1),
        ]
        own = [z * (nu / beta).sqrt(), -math.sqrt(0.5 * self.n_outputs) / beta * mass.unsqueeze(1)]
        return Features(torch.cat(common, dim=1), torch.cat(own, dim=1))
