"""Linear regressions with random effects of groups, as a value: coefficients, noise and covariance of the effects.

For a group of rows X, Z, y of component k: y | b ~ Normal(X β + Z b, τ⁻¹ I), b ~ Normal(0, Ω⁻¹), with the priors
β ~ Normal(m₀, Λ₀⁻¹), τ ~ Gamma(a₀, b₀), Ω ~ Wishart(Ψ₀⁻¹, ν₀). Under q(β) q(τ) q(Ω) the best q(b | β) of a group is
Normal(τ̄ S Z'(y − X β), S) with S = (τ̄ Z'Z + Ω̄)⁻¹, τ̄ = E τ and Ω̄ = E Ω. It stays a function of β, for the two depend
on each other much. Integrated over it, a group adds to the bound, in nats,

    ½ n (E log τ − log 2π) + ½ E log |Ω| + ½ log |S| − ½ E (y − X β)' U (y − X β),   U = τ̄ I − τ̄² Z S Z'
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.conjugate.full_covariance import Full
from mixpyro.conjugate.gamma import Gamma
from mixpyro.numerics.cholesky import cholesky, inverted, log_determinants
from mixpyro.numerics.design_matrix import Origin
from mixpyro.numerics.group_densities import GroupColumns
from mixpyro.numerics.group_products import (
    factors,
    log_determinant,
    paired,
    solved,
    solved_back,
    unpaired,
)


class EffectStatistics(NamedTuple):
    """Sums over groups weighted by responsibilities, float64, under the q(b | β) that they were computed with.

    The sums of squares are quadratic in β: with M = E [β, −1][β, −1]' they are traces of M with a matrix.
    """

    r: Tensor  # Σ r [..., K]
    rows: Tensor  # Σ r n [..., K]
    uu: Tensor  # Σ r X'U X [..., K, E, E]
    uy: Tensor  # Σ r X'U y [..., K, E]
    residuals: Tensor  # of Σ r E |y − X β − Z b|² [..., K, E + 1, E + 1]
    effects: Tensor  # of Σ r E b b' [..., K, q, q, E + 1, E + 1]

    @property
    def counts(self) -> Tensor:
        """Σ r [..., K], at least zero in the statistics of any groups."""
        return self.r


class RandomEffects(NamedTuple):
    """β ~ Normal(mean, precision⁻¹), τ ~ Gamma(shape, rate), Ω ~ Wishart(scale⁻¹, degrees) of every component, float64.

    Fields have any leading axes. Where components share τ or Ω, that axis of its fields has length one.
    """

    mean: Tensor  # m [..., K, E]
    precision: Tensor  # Λ [..., K, E, E]
    shape: Tensor  # a [..., K or 1]
    rate: Tensor  # b [..., K or 1]
    degrees: Tensor  # ν [..., K or 1]
    scale: Tensor  # Ψ [..., K or 1, q, q]

    @property
    def n_effects(self) -> int:
        """q, the number of random effects of a group."""
        return self.scale.shape[-1]

    @property
    def noise(self) -> Gamma:
        """The distribution of τ."""
        return Gamma(self.shape, self.rate)

    @property
    def effects(self) -> Full:
        """The distribution of Ω, with that of a mean, zero, that nothing reads."""
        return Full(torch.zeros_like(self.scale[..., 0]), torch.ones_like(self.degrees), self.degrees, self.scale)

    @property
    def effect_precision(self) -> Tensor:
        """Ω̄ = E Ω = ν Ψ⁻¹ [..., K or 1, q, q]."""
        root = inverted(self.effects.factor)
        return self.degrees[..., None, None] * (root.mT @ root)

    @property
    def n_parameters(self) -> int:
        """Number of coefficients, noises and variances and covariances of effects; shared ones count once."""
        q = self.n_effects
        return self.mean.numel() + self.rate.numel() + self.degrees.numel() * q * (q + 1) // 2

    @property
    def moments(self) -> Tensor:
        """E [β, −1][β, −1]' [..., K, E + 1, E + 1]."""
        root = inverted(cholesky(self.precision))
        extended = torch.cat([self.mean, -torch.ones_like(self.mean[..., :1])], dim=-1)
        covariance = torch.nn.functional.pad(root.mT @ root, (0, 1, 0, 1))
        return extended.unsqueeze(-1) * extended.unsqueeze(-2) + covariance

    def from_origin(self, origin: Origin, shear: Tensor) -> "RandomEffects":
        """Return the same distribution for x and y counted from an origin.

        Args:
            origin: this distribution's x and y are counted from zero.
            shear: B [q, q], effects of x from the origin are B b.
        """
        shift = origin.shift
        mean = (self.mean - origin.offset[0]) @ origin.back.mT
        return self._replace(
            mean=mean, precision=shift.mT @ self.precision @ shift, scale=shear @ self.scale @ shear.mT
        )

    def from_zero(self, origin: Origin, shear: Tensor) -> "RandomEffects":
        """Return the same distribution for x and y counted from zero.

        Args:
            origin: where this distribution's x and y are counted from.
            shear: B [q, q], effects of x as it is are B b.
        """
        back = origin.back
        mean = self.mean @ origin.shift.mT + origin.offset[0]
        return self._replace(mean=mean, precision=back.mT @ self.precision @ back, scale=shear @ self.scale @ shear.mT)

    def updated(self, seen: EffectStatistics) -> "RandomEffects":
        """Return the posterior of this prior given q(b | β): β first, then τ and Ω given it.

        Args:
            seen: sums over the groups, with any leading axes.
        """
        precision = self.precision + seen.uu
        target = (self.precision @ self.mean.unsqueeze(-1)).squeeze(-1) + seen.uy
        mean = torch.cholesky_solve(target.unsqueeze(-1), cholesky(precision)).squeeze(-1)
        moments = self._replace(mean=mean, precision=precision).moments
        squares = (seen.residuals * moments).sum((-2, -1))
        effects = (seen.effects * moments[..., None, None, :, :]).sum((-2, -1))
        shape = self.shape + 0.5 * _pooled(seen.rows, self.shape, -1)
        rate = self.rate + 0.5 * _pooled(squares, self.rate, -1).clamp_min(0.0)
        degrees = self.degrees + _pooled(seen.r, self.degrees, -1)
        scale = self.scale + Full.mended(_pooled(effects, self.degrees, -3))
        return RandomEffects(mean, precision, shape, rate, degrees, scale)

    def statistics_beyond(self, prior: "RandomEffects") -> EffectStatistics:
        """Return statistics that lead from a prior to this posterior.

        What they have of a shared τ or Ω is divided evenly among the components.

        Args:
            prior: with or without the leading axes.
        """
        size = self.mean.shape[-1]
        uy = ((self.precision @ self.mean.unsqueeze(-1)) - prior.precision @ prior.mean.unsqueeze(-1)).squeeze(-1)
        rows = 2.0 * _divided(self.shape - prior.shape, self.mean, 0)
        squares = 2.0 * _divided(self.rate - prior.rate, self.mean, 0)
        effects = _divided(self.scale - prior.scale, self.mean, 2)
        corner = torch.zeros(size + 1, size + 1, dtype=uy.dtype, device=uy.device)
        corner[size, size] = 1.0
        return EffectStatistics(
            r=_divided(self.degrees - prior.degrees, self.mean, 0),
            rows=rows,
            uu=self.precision - prior.precision,
            uy=uy,
            residuals=squares[..., None, None] * corner,
            effects=effects[..., None, None] * corner,
        )

    def kl(self, prior: "RandomEffects") -> Float[Tensor, "*R"]:
        """Return KL(self ‖ prior) in nats, summed over components; a shared τ or Ω counts once.

        Args:
            prior: with or without the leading axes.
        """
        factor, prior_factor = cholesky(self.precision), cholesky(prior.precision)
        difference = (self.mean - prior.mean).unsqueeze(-1)
        distance = (difference.mT @ prior.precision @ difference)[..., 0, 0]
        trace = torch.linalg.solve_triangular(factor, prior_factor, upper=False).square().sum((-2, -1))
        log_ratio = log_determinants(factor) - log_determinants(prior_factor)
        normal = 0.5 * (distance + trace - self.mean.shape[-1] + log_ratio)
        return normal.sum(-1) + self.noise.kl(prior.noise).sum(-1) + self.effects.precision_kl(prior.effects).sum(-1)

    def log_likelihoods(self, columns: GroupColumns) -> Float[Tensor, "*R K G"]:
        """Return what every group adds to the bound in nats [..., K, G], the formula at the head of this module.

        Args:
            columns: sums over the rows of each group.
        """
        noise, factor = self.noise, self._factor(columns)
        mean_noise = noise.mean.unsqueeze(-1)
        squares = paired(self.moments) @ columns.products
        root = inverted(cholesky(self.precision))
        extended = torch.cat([self.mean, -torch.ones_like(self.mean[..., :1])], dim=-1)
        directions = torch.cat([extended.unsqueeze(-2), torch.nn.functional.pad(root, (0, 1))], dim=-2)
        crossed = [directions @ row for row in columns.crossed]
        explained = sum(row.square().sum(-2) for row in solved(factor, crossed))
        constant = noise.expected_log - math.log(2.0 * math.pi)
        of_effects = self.effects.expected_log_determinant.unsqueeze(-1) - log_determinant(factor)
        of_rows = constant.unsqueeze(-1) * columns.rows
        return 0.5 * (of_rows + of_effects - mean_noise * squares + mean_noise.square() * explained)

    def statistics(self, columns: GroupColumns, responsibilities: Float[Tensor, "*R K G"]) -> EffectStatistics:
        """Return the sums over groups that the update needs, with q(b | β) under this posterior.

        Args:
            columns: sums over the rows of each group.
            responsibilities: [..., K, G].
        """
        r = responsibilities.double()
        q, width = columns.crossed.shape[:2]
        factor, mean_noise = self._factor(columns), self.noise.mean[..., None, None]
        identity = torch.eye(q, dtype=r.dtype, device=r.device)
        of_groups = zip(columns.crossed, identity, strict=True)
        both = [torch.cat([row, one.unsqueeze(-1).expand(q, row.shape[-1])]) for row, one in of_groups]
        half = solved(factor, both)  # L⁻¹ [Z'd, I]
        weighted = [r.unsqueeze(-2) * row for row in half]
        gram = torch.stack([one @ row.mT for one, row in zip(weighted, half, strict=True)]).sum(0)
        information = (
            mean_noise * unpaired(r @ columns.products.mT, width) - mean_noise.square() * gram[..., :width, :width]
        )
        covariance = gram[..., width:, width:]
        means = torch.cat(
            solved_back(factor, [row[..., :width, :] for row in half]), dim=-2
        )  # S Z'd [..., q (E + 1), G]
        products = mean_noise.square() * ((r.unsqueeze(-2) * means) @ means.mT)
        effects = products.unflatten(-1, (q, width)).unflatten(-3, (q, width)).transpose(-3, -2)
        of_effects = self.effect_precision
        residuals = information - (of_effects[..., None, None] * effects).sum((-4, -3))
        trace = q * r.sum(-1) - (of_effects * covariance).sum((-2, -1))
        residuals[..., -1, -1] += trace
        effects = effects.clone()
        effects[..., -1, -1] += covariance
        rows = (r * columns.rows).sum(-1)
        uu, uy = information[..., :-1, :-1], information[..., :-1, -1]
        return EffectStatistics(r.sum(-1), rows, uu, uy, residuals / mean_noise, effects)

    def effects_of_groups(self, columns: GroupColumns) -> tuple[Tensor, Tensor]:
        """Return mean [..., K, G, q] and covariance [..., K, G, q, q] of the effects of every group and component.

        The uncertainty of β is included: the covariance is S + τ̄² S Z'X Λ⁻¹ X'Z S.

        Args:
            columns: sums over the rows of each group.
        """
        q = self.n_effects
        factor = self._factor(columns)
        mean_noise = self.noise.mean[..., None, None]
        root = inverted(cholesky(self.precision))
        extended = torch.cat([-self.mean, torch.ones_like(self.mean[..., :1])], dim=-1)
        directions = torch.cat([extended.unsqueeze(-2), torch.nn.functional.pad(root, (0, 1))], dim=-2)
        crossed = [mean_noise * (directions @ row) for row in columns.crossed]
        found = torch.stack(solved_back(factor, solved(factor, crossed)), dim=-1)  # [..., K, 1 + E, G, q]
        identity = torch.eye(q, dtype=root.dtype, device=root.device)
        shape = (*found.shape[:-3], q, found.shape[-2])
        half = torch.stack(solved(factor, [row.unsqueeze(-1).expand(shape) for row in identity]), dim=-1)
        half = half.transpose(-3, -2)  # [..., K, G, q, q] of L⁻¹', entry (column, row)
        spread = found[..., 1:, :, :].transpose(-3, -2)
        return found[..., 0, :, :], half @ half.mT + spread.mT @ spread

    def _factor(self, columns: GroupColumns) -> list[list[Tensor]]:
        """Return L with L L' = τ̄ Z'Z + Ω̄ of every group, entries [..., K, G]."""
        mean_noise, of_effects = self.noise.mean.unsqueeze(-1), self.effect_precision
        return factors(
            [
                [mean_noise * columns.effects[i, j] + of_effects[..., i, j].unsqueeze(-1) for j in range(i + 1)]
                for i in range(self.n_effects)
            ]
        )


def _pooled(values: Tensor, like: Tensor, dim: int) -> Tensor:
    """Return values of components, or their sum where the components share one."""
    return values.sum(dim, keepdim=True) if like.shape[-1] == 1 else values


def _divided(values: Tensor, mean: Tensor, n_trailing: int) -> Tensor:
    """Divide what components share evenly among them."""
    n_components, axis = mean.shape[-2], values.ndim - 1 - n_trailing
    if values.shape[axis] == n_components:
        return values
    return (values / n_components).repeat_interleave(n_components, axis)
