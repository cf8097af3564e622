"""A prior of coefficients with an unknown precision for each column, as a value."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.conjugate.gamma import Gamma
from mixpyro.conjugate.normal import NormalCoefficients


class ColumnRelevance(NamedTuple):
    """c_e | λₑ ~ Normal(0, (λₑ B)⁻¹) of M functions with λₑ ~ Gamma, and c₀ ~ Normal(0, (λ₀ B)⁻¹), float64.

    For every q(c) the best q(λ) is known, Gamma(a + ½ M, b + ½ E c'Bc), so that it is no value of its own.

    References:
        Bishop (2006), Pattern Recognition and Machine Learning, eq. 10.177 to 10.179.
    """

    between: Tensor  # B [M, M]
    intercept: Tensor  # λ₀, a scalar
    columns: Gamma  # p(λ), a shape and a rate

    def _of_columns(self, q: NormalCoefficients) -> Gamma:
        """Return q(λ) [..., D]."""
        size = len(self.between)
        mean = q.mean.squeeze(-2).unflatten(-1, (size, -1))
        by_column = q.covariance.squeeze(-3).unflatten(-1, (size, -1)).unflatten(-3, (size, -1))
        variances = by_column.diagonal(dim1=-3, dim2=-1)  # [..., M, M, D]
        squares = ((mean.unsqueeze(-2) * mean.unsqueeze(-3) + variances) * self.between.unsqueeze(-1)).sum((-3, -2))
        rate = self.columns.rate + 0.5 * squares[..., 1:]
        return Gamma((self.columns.shape + 0.5 * size).expand_as(rate), rate)

    def precisions(self, q: NormalCoefficients) -> Float[Tensor, "*R D"]:
        """Return E λ under the best q(λ).

        Args:
            q: the posterior of the coefficients, with any leading axes.
        """
        return self._of_columns(q).mean

    def given(self, q: NormalCoefficients) -> NormalCoefficients:
        """Return the prior of the coefficients at E λ.

        Args:
            q: their posterior, with any leading axes.
        """
        return self._at(self.precisions(q), q)

    def _at(self, precisions: Tensor, q: NormalCoefficients) -> NormalCoefficients:
        """Return the prior at precisions of the columns."""
        first = self.intercept.expand(*precisions.shape[:-1], 1)
        diagonal = torch.cat([first, precisions], dim=-1)
        size, n_columns = len(self.between), diagonal.shape[-1]
        blocks = self.between[:, None, :, None] * diagonal.diag_embed()[..., None, :, None, :]
        precision = blocks.reshape(*diagonal.shape[:-1], 1, size * n_columns, size * n_columns)
        return NormalCoefficients(torch.zeros_like(q.mean), precision)

    def kl(self, q: NormalCoefficients) -> Float[Tensor, "*R"]:
        """Return KL(q(c) q(λ) ‖ p(c, λ)) in nats at the best q(λ); above zero even without data.

        Args:
            q: the posterior of the coefficients, with any leading axes.
        """
        own = self._of_columns(q)
        # The divergence of the coefficients is at E λ: its log determinant has log E λ where E log λ belongs.
        excess = 0.5 * len(self.between) * (own.mean.log() - own.expected_log)
        return q.kl(self._at(own.mean, q)) + (excess + own.kl(self.columns)).sum(-1)
