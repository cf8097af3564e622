"""Linear response of regressions under a Normal-Gamma distribution."""

import math
from functools import cached_property

import torch
from torch import Tensor

from mixpyro.conjugate.normal_gamma import LinearStatistics, NormalGamma
from mixpyro.conjugate.responses.base import Features, Response, with_infinite_variance
from mixpyro.conjugate.responses.gamma import excess_of_log
from mixpyro.numerics.design_matrix import Origin, StackedOrigin


class NormalGammaResponse(Response):
    """Statistics log τ, τ, τw and τww'; quantities are all coefficients w [K, P, E], then log τ in the rate's shape.

    With w = m + τ^(−½) W ε, W W' = Λ⁻¹ and ε standard Normal, the coordinates are: every τ, what τ does not explain of
    log τ, √τ ε, and the products of pairs of ε, each divided by its standard deviation; the second and the last are
    summed over outputs, which all have the same features. The residual e = y − m'u and
    v = W'u of a row give its features, for ½ log τ − ½ τ (y − w'u)² = ½ log τ − ½ τ e² + √τ e v'ε − ½ (v'ε)².

    Args:
        value: NormalGamma, without leading axes.
        origin: from which x and y are counted; coefficients are those of x and y as they are.
    """

    def __init__(self, value: NormalGamma, origin: Origin | StackedOrigin) -> None:
        self.value, self.origin, self.has_constant = value, origin, origin.intercept
        self.n_components, self.n_outputs, self.n_columns = value.mean.shape
        self.has_common_noise = len(value.rate) < self.n_components
        self.n_noises = value.rate.shape[1]  # of a component, or in common
        n_pairs = self.n_columns * (self.n_columns + 1) // 2
        self.n_common = self.n_noises + 1 if self.has_common_noise else 0
        self.n_own = self.n_outputs * self.n_columns + n_pairs + self.n_noises + 1 - self.n_common

    @property
    def quantities(self) -> Tensor:
        """E w for x and y as they are, then E log τ."""
        mean = self.value.mean @ self.origin.shift.mT + self.origin.offset
        return torch.cat([mean.flatten(), self.value.noise.expected_log.flatten()])

    @property
    def covariance(self) -> Tensor:
        """Λ⁻¹ E 1/τ of the coefficients of each component and output, and ψ'(a) of log τ.

        Where E 1/τ is infinite, the variances are, and covariances are those of E τ instead.
        """
        shift = self.origin.shift @ self._root
        variances = (shift @ shift.mT).unsqueeze(1)
        exact = self._of_outputs(self.value.expected_noise_variance)
        noise = torch.where(exact.isfinite(), exact, self._of_outputs(1.0 / self._mean_noise))
        blocks = with_infinite_variance(noise[..., None, None] * variances, exact.isinf())
        log_noise = torch.polygamma(1, self._shape).flatten()
        return torch.block_diag(*blocks.flatten(0, 1), log_noise.diag_embed())

    @property
    def loadings(self) -> Tensor:
        """W / √E τ of the coefficients on √τ ε, and those of log τ on its two coordinates."""
        scale = self._of_outputs(self._mean_noise).rsqrt()
        of_w = scale[..., None, None] * (self.origin.shift @ self._root).unsqueeze(1)
        own = torch.block_diag(*of_w.flatten(0, 1)).unflatten(1, (self.n_components, -1))
        of_noise = self._shape.rsqrt().diag_embed()
        of_rest = self._excess[:, None, None].expand(-1, self.n_noises, 1) / math.sqrt(self.n_noises)
        noises = torch.block_diag(*torch.cat([of_noise, of_rest], dim=-1))
        n_w = len(own)
        common = own.new_zeros(n_w + len(noises), self.n_common)
        columns = own.new_zeros(n_w + len(noises), self.n_components, self.n_own)
        columns[:n_w, :, : own.shape[-1]] = own
        if self.has_common_noise:
            common[n_w:] = noises
        else:
            columns[n_w:, :, -self.n_noises - 1 :] = noises.unflatten(1, (self.n_components, -1))
        return torch.cat([common, columns.flatten(1)], dim=1)

    def features(self, columns: Tensor) -> Features:
        """Return the features of rows.

        Args:
            columns: of u and y, as rows [E + P, N].
        """
        u, y = columns[: self.n_columns], columns[self.n_columns :]
        residual = y - self.value.mean @ u
        v = self.value.whitening @ u
        # In the order of `_pairs`; to index by it takes three times as long.
        products = torch.cat([v[:, a:] * v[:, a : a + 1] for a in range(self.n_columns)], dim=1)
        counts = torch.ones_like(residual[:, 0])
        return self._assembled(counts, residual.square(), residual.unsqueeze(2) * v.unsqueeze(1), products)

    def totals(self, statistics: LinearStatistics) -> Features:
        """Return sums of features.

        Args:
            statistics: Σ r, Σ r u u', Σ r u y' and Σ r y² of the K components.
        """
        return self._totals(statistics)

    def _totals(self, statistics: LinearStatistics) -> Features:
        """Return sums of features."""
        mean, whitening = self.value.mean, self.value.whitening
        of_mean = mean @ statistics.uu
        squares = statistics.yy - 2.0 * (mean * statistics.uy.mT).sum(-1) + (of_mean * mean).sum(-1)
        crossed = (statistics.uy.mT - of_mean) @ whitening.mT
        products = whitening @ statistics.uu @ whitening.mT
        first, second = self._pairs
        found = self._assembled(
            statistics.r.unsqueeze(-1), squares.unsqueeze(-1), crossed.unsqueeze(-1), products[:, first, second, None]
        )
        return Features(found.common.sum(0).squeeze(-1), found.own.squeeze(-1))

    def statistics(self, sums: Features) -> LinearStatistics:
        """Return Σ r, Σ r u u', Σ r u y' and Σ r y².

        Args:
            sums: in common [C] and own [K, O].
        """
        n_w, mean, factor = self.n_outputs * self.n_columns, self.value.mean, self.value.factor
        first, second = self._pairs
        products = mean.new_zeros(self.n_components, self.n_columns, self.n_columns)
        products[:, first, second] = sums.own[:, n_w : n_w + len(first)] / self._pair_scales
        uu = factor @ (products + products.triu(1).mT) @ factor.mT
        root = self._of_outputs(self._mean_noise).sqrt()
        of_mean = mean @ uu
        uy = (sums.own[:, :n_w].unflatten(1, mean.shape[1:]) / root[..., None]) @ factor.mT + of_mean
        # Every τ has half the number of its objects and outputs, and the sum of their squares.
        noises = sums.common.unsqueeze(0) if self.has_common_noise else sums.own[:, -self.n_noises - 1 :]
        n_sharing = mean[..., 0].numel() // self.value.rate.numel()
        half = noises[:, -1:] / (math.sqrt(self.n_noises) * self._excess.unsqueeze(-1))
        squares = (half * self._shape.rsqrt() - noises[:, :-1]) * 2.0 * self.value.rate / self._shape.sqrt()
        yy = self._of_outputs(squares / n_sharing) + 2.0 * (mean * uy).sum(-1) - (of_mean * mean).sum(-1)
        counts = 2.0 * half.squeeze(-1) / n_sharing
        return LinearStatistics(counts.expand(self.n_components), uu, uy.mT, yy)

    def of_prior(self, prior: NormalGamma) -> Features:
        """Return the features of log p(w, τ), which is that of rows with statistics λ₀.

        Args:
            prior: of the same shape.
        """
        n_sharing = prior.mean[..., 0].numel() // prior.rate.numel()
        uy = (prior.mean @ prior.precision).mT
        yy = (prior.mean * uy.mT).sum(-1) + 2.0 * self._of_outputs(prior.rate) / n_sharing
        r = 2.0 * (prior.shape - 1.0) / n_sharing + self.n_columns
        return self._totals(LinearStatistics(r.expand(self.n_components), prior.precision, uy, yy))

    def expected_log_prior(self, prior: NormalGamma) -> Tensor:
        """Return E log p(w, τ), up to a constant.

        Args:
            prior: of the same shape.
        """
        noise, whitening = self.value.noise, self.value.whitening
        of_noise = ((prior.shape - 1.0).unsqueeze(-1) * noise.expected_log - prior.rate * noise.mean).sum()
        difference = self.value.mean - prior.mean
        distance = (difference @ prior.precision * difference).sum(-1)
        spread = self.n_outputs * (whitening @ prior.precision * whitening).sum()
        log_noise = self._of_outputs(noise.expected_log).sum()
        return of_noise + 0.5 * (self.n_columns * log_noise - (noise.mean * distance).sum() - spread)

    def _assembled(self, counts: Tensor, squares: Tensor, crossed: Tensor, products: Tensor) -> Features:
        """Return features from 1 [K, N], e² [K, P, N], e v [K, P, E, N] and the pairs of v [K, E (E + 1) / 2, N]."""
        root = self._of_outputs(self._mean_noise).sqrt()
        of_w = (root[..., None, None] * crossed).flatten(1, 2)
        of_pairs = self._pair_scales.unsqueeze(-1) * products
        per_noise = self.n_outputs // self.n_noises
        summed = squares.unflatten(1, (self.n_noises, per_noise)).sum(2)
        shape, rate = self._shape.unsqueeze(-1), self.value.rate.unsqueeze(-1)
        half = (0.5 * per_noise * counts).unsqueeze(1)
        of_noise = half * shape.rsqrt() - 0.5 * summed * shape.sqrt() / rate
        of_rest = math.sqrt(self.n_noises) * half * self._excess[:, None, None]
        noises = torch.cat([of_noise, of_rest], dim=1)
        if self.has_common_noise:
            return Features(noises, torch.cat([of_w, of_pairs], dim=1))
        return Features(noises[:, :0], torch.cat([of_w, of_pairs, noises], dim=1))

    @cached_property
    def _root(self) -> Tensor:
        """W [K, E, E] with W W' = Λ⁻¹."""
        return self.value.whitening.mT

    @cached_property
    def _shape(self) -> Tensor:
        """Shape a of every noise, in the form of the rate."""
        return self.value.shape.unsqueeze(-1).expand_as(self.value.rate)

    @cached_property
    def _excess(self) -> Tensor:
        """√(ψ'(a) − 1/a), the standard deviation of what τ does not explain of log τ, in the form of the shape."""
        return excess_of_log(self.value.shape).sqrt()

    @property
    def _mean_noise(self) -> Tensor:
        """E τ, in the form of the rate."""
        return self._shape / self.value.rate

    def _of_outputs(self, noises: Tensor) -> Tensor:
        """Repeat a number for each noise to all components and outputs [K, P]."""
        return noises.expand(self.n_components, self.n_outputs)

    @property
    def _pairs(self) -> tuple[Tensor, Tensor]:
        """First and second columns of the pairs of ε."""
        first, second = torch.triu_indices(self.n_columns, self.n_columns, device=self.value.mean.device)
        return first, second

    @property
    def _pair_scales(self) -> Tensor:
        """Factor of each pair's v v: −½ or, off the diagonal, −1, times the standard deviation of Σₚ ε ε."""
        first, second = self._pairs
        half = torch.where(first == second, 0.5, 1.0).double()
        return -half.sqrt() * math.sqrt(self.n_outputs)
