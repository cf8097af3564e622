"""Linear response of Gaussian densities under a Normal-Wishart distribution with any precision matrix."""

import math
from functools import cached_property

import torch
from torch import Tensor

from mixpyro.conjugate.full_covariance import Full
from mixpyro.conjugate.normal_wishart import GaussianStatistics
from mixpyro.conjugate.responses.base import Features, Response, with_infinite_variance
from mixpyro.numerics.cholesky import inverted


class FullResponse(Response):
    """Statistics log |Λ|, Λ, Λμ and μ'Λμ; quantities are means, log precisions and regressions of the columns.

    In units in which Ψ = L L' is the identity, Λ̃ = L'Λ L ~ Wishart(I, ν) has uncorrelated entries. The quantities are μ
    [K, P], then in Bartlett's decomposition the log precision of each column given those before it [K, P], and its
    coefficients on those before it [K, P (P − 1) / 2], the parameters of the experts' Pyro sites.

    Args:
        value: without leading axes.
        y_origin: from which y is counted [P].
    """

    n_common = 0

    def __init__(self, value: Full, y_origin: Tensor) -> None:
        self.value, self.y_origin = value, y_origin
        self.n_components, self.n_outputs = value.mean.shape
        self.n_own = self.n_outputs * (self.n_outputs + 3) // 2 + 2

    @property
    def quantities(self) -> Tensor:
        """E μ for y as it is, E log of the conditional precisions, and E of the regressions."""
        diagonal = self.value.factor.diagonal(dim1=-2, dim2=-1)
        log_precision = torch.digamma(self.value.half_degrees) + math.log(2.0) - 2.0 * diagonal.log()
        regression = -diagonal.unsqueeze(-1) * self._whitening
        first, second = self._below
        parts = (self.value.mean + self.y_origin.double(), log_precision, regression[:, first, second])
        return torch.cat([part.flatten() for part in parts])

    @property
    def covariance(self) -> Tensor:
        """Ψ / (β (ν − P − 1)), ψ' of the Gammas' shapes, and E[Λ̃⁻¹]-weighted products of rows of L⁻¹."""
        excess, nu = self.value.degrees - self.n_outputs - 1.0, self.value.degrees
        scaled = self.value.scale / self.value.mean_precision[:, None, None]
        finite = scaled / torch.where(excess > 0.0, excess, nu)[:, None, None]
        of_mean = with_infinite_variance(finite, excess <= 0.0)
        of_log = torch.polygamma(1, self.value.half_degrees).flatten().diag_embed()
        rows = []
        for k in range(self.n_components):
            for p in range(1, self.n_outputs):
                root, own = self._regression_root(k, p), excess[k] + p
                block = root @ root.mT / torch.where(own > 0.0, own, nu[k])
                rows.append(with_infinite_variance(block, own <= 0.0))
        return torch.block_diag(*of_mean, of_log, *rows)

    @property
    def loadings(self) -> Tensor:
        """Covariances with the coordinates; derivatives of the means of Bartlett's parameters in Ψ at Ψ = I."""
        n, nu, beta = self.n_outputs, self.value.degrees, self.value.mean_precision
        found = [self.value.mean.new_zeros(n * (n + 3) // 2, self.n_own) for _ in range(self.n_components)]
        start = n * (n + 1) // 2  # of the coordinates of Λμ, after those of Λ̃
        for k, block in enumerate(found):
            block[:n, start : start + n] = self.value.factor[k] / (nu[k] * beta[k]).sqrt()
            block[n : 2 * n, :n] = torch.eye(n, dtype=nu.dtype, device=nu.device) * (0.5 * nu[k]).rsqrt()
            beyond = torch.polygamma(1, self.value.half_degrees[k]) - 2.0 / nu[k]
            block[n : 2 * n, -1] = beyond / self._excess[k]
            for p in range(1, n):
                rows = slice(2 * n + p * (p - 1) // 2, 2 * n + p * (p + 1) // 2)
                columns = slice(n + p * (p - 1) // 2, n + p * (p + 1) // 2)
                block[rows, columns] = -self._regression_root(k, p) * nu[k].rsqrt()
        return self._by_kind(torch.block_diag(*found))

    def features(self, columns: Tensor) -> Features:
        """Return the features of rows.

        Args:
            columns: ones, then those of y, as rows [1 + P, N].
        """
        z = self._whitening @ (columns[1:] - self.value.mean.unsqueeze(-1))
        first, second = self._below
        ones = torch.ones_like(z[:, 0])
        return self._assembled(ones, ones, z, z.square(), z[:, first] * z[:, second])

    def totals(self, statistics: GaussianStatistics) -> Features:
        """Return sums of features.

        Args:
            statistics: Σ r, Σ r y and Σ r y y' of the K components.
        """
        return self._totals(statistics.r, statistics.r, statistics.y, statistics.yy)

    def statistics(self, sums: Features) -> GaussianStatistics:
        """Return Σ r, Σ r y and Σ r y y'.

        Args:
            sums: own [K, O].
        """
        n, mean, factor = self.n_outputs, self.value.mean, self.value.factor
        nu, beta = self.value.degrees.unsqueeze(-1), self.value.mean_precision.unsqueeze(-1)
        counts = 2.0 * sums.own[:, -1:] / self._excess.unsqueeze(-1)
        first, second = self._below
        start = n * (n + 1) // 2  # of the sums of z
        products = mean.new_zeros(self.n_components, n, n)
        products[:, first, second] = -sums.own[:, n:start] * nu.rsqrt()
        squares = (0.5 * counts * (0.5 * nu).rsqrt() - sums.own[:, :n]) * (0.5 * nu).rsqrt()
        products = products + products.mT + squares.diag_embed()
        z = sums.own[:, start : start + n] * (beta / nu).sqrt()
        y = (factor @ z.unsqueeze(-1)).squeeze(-1) + counts * mean
        of_mean = 2.0 * self.value.product(mean, y) - counts.unsqueeze(-1) * self.value.product(mean, mean)
        return GaussianStatistics(counts.squeeze(-1), y, factor @ products @ factor.mT + of_mean)

    def of_prior(self, prior: Full) -> Features:
        """Return the features of log p(μ, Λ), in which log |Λ| counts ν₀ − P objects and the others β₀.

        Args:
            prior: of the same shape.
        """
        beta = prior.mean_precision.unsqueeze(-1)
        squares = prior.scale + beta.unsqueeze(-1) * prior.product(prior.mean, prior.mean)
        return self._totals(prior.degrees - self.n_outputs, prior.mean_precision, beta * prior.mean, squares)

    def expected_log_prior(self, prior: Full) -> Tensor:
        """Return E log p(μ, Λ), up to a constant.

        Args:
            prior: of the same shape.
        """
        q = self.value
        distance = prior.mean_precision * q.degrees * q.squared_norm(q.mean - prior.mean)
        spread = self.n_outputs * prior.mean_precision / q.mean_precision
        trace = q.degrees * (self._whitening @ prior.scale @ self._whitening.mT).diagonal(dim1=-2, dim2=-1).sum(-1)
        of_log = (prior.degrees - self.n_outputs) * q.expected_log_determinant
        return 0.5 * (of_log - distance - spread - trace).sum()

    def _totals(self, r: Tensor, mass: Tensor, y: Tensor, yy: Tensor) -> Features:
        """Return sums of features from counts of log |Λ| and of the rest [K], Σ y [K, P] and Σ y y' [K, P, P]."""
        mean, whitening = self.value.mean, self._whitening
        centred = yy - 2.0 * self.value.product(mean, y) + mass[:, None, None] * self.value.product(mean, mean)
        z = (whitening @ (y - mass.unsqueeze(-1) * mean).unsqueeze(-1)).squeeze(-1)
        products = whitening @ centred @ whitening.mT
        first, second = self._below
        squares = products.diagonal(dim1=-2, dim2=-1)
        parts = (r, mass, z, squares, products[:, first, second])
        found = self._assembled(*(part.unsqueeze(-1) for part in parts))
        return Features(found.common.sum(0).squeeze(-1), found.own.squeeze(-1))

    def _assembled(self, counts: Tensor, mass: Tensor, z: Tensor, squares: Tensor, products: Tensor) -> Features:
        """Return features from 1 [K, N] twice, z [K, P, N], its squares, and products of pairs p > j."""
        nu, beta = self.value.degrees[:, None, None], self.value.mean_precision[:, None, None]
        own = [
            0.5 * counts.unsqueeze(1) * (0.5 * nu).rsqrt() - squares * (0.5 * nu).sqrt(),
            -products * nu.sqrt(),
            z * (nu / beta).sqrt(),
            -math.sqrt(0.5 * self.n_outputs) / beta * mass.unsqueeze(1),
            0.5 * self._excess[:, None, None] * counts.unsqueeze(1),
        ]
        return Features(z[:, :0], torch.cat(own, dim=1))

    @cached_property
    def _whitening(self) -> Tensor:
        """L⁻¹ [K, P, P]."""
        return inverted(self.value.factor)

    @cached_property
    def _excess(self) -> Tensor:
        """√(Σₚ ψ'((ν − P + 1 + p) / 2) − 2 P / ν) [K], the standard deviation of log |Λ̃| given the trace of Λ̃."""
        variance = torch.polygamma(1, self.value.half_degrees).sum(-1)
        return (variance - 2.0 * self.n_outputs / self.value.degrees).sqrt()

    @property
    def _below(self) -> tuple[Tensor, Tensor]:
        """Rows and columns below the diagonal, row by row."""
        first, second = torch.tril_indices(self.n_outputs, self.n_outputs, -1, device=self.value.mean.device)
        return first, second

    def _regression_root(self, k: int, p: int) -> Tensor:
        """Matrix [p, p] from coefficients of column p in units of L to those in units of y."""
        factor = self.value.factor
        return factor[k, p, p] * self._whitening[k, :p, :p].mT

    def _by_kind(self, rows: Tensor) -> Tensor:
        """Reorder rows from component by component to means, log precisions and regressions of all components."""
        n = self.n_outputs
        by_component = rows.unflatten(0, (self.n_components, -1))
        kinds = by_component.split([n, n, n * (n - 1) // 2], dim=1)
        return torch.cat([kind.flatten(0, 1) for kind in kinds])
