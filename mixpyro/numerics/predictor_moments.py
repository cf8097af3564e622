"""Variances of linear predictors of rows, and the weighted outer products of these rows that they lead to."""

from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro.numerics.pairs import pair_indices, pair_products


class DesignRows(NamedTuple):
    """Rows of a design, with the products of each pair of its columns, which both sums are products with."""

    columns: Tensor  # u [E, N]
    products: Tensor  # [E (E + 1) / 2, N]

    @classmethod
    def of(cls, u: Tensor) -> "DesignRows":
        """Return the rows of a design.

        Args:
            u: [N, E], float64.
        """
        columns = u.mT.contiguous()
        return cls(columns, pair_products(columns))

    def means(self, coefficients: Tensor) -> Tensor:
        """Return m'u [..., M, N].

        Args:
            coefficients: m [..., M, E].
        """
        return coefficients @ self.columns

    def variances(self, matrices: Tensor) -> Tensor:
        """Return u'Su [..., M, N].

        Args:
            matrices: S [..., M, E, E]; of one that is not symmetric, the symmetric part counts.
        """
        first, second = pair_indices(len(self.columns), matrices.device)
        entries = matrices[..., first, second] + matrices[..., second, first]
        entries = torch.where(first == second, 0.5 * entries, entries)
        return entries @ self.products

    def grams(self, weights: Tensor) -> Tensor:
        """Return Σᵢ wᵢ uᵢuᵢ' [..., M, E, E].

        Args:
            weights: w [..., M, N].
        """
        size = len(self.columns)
        first, second = pair_indices(size, weights.device)
        sums = weights @ self.products.mT
        place = torch.empty(size, size, dtype=torch.long, device=weights.device)
        place[first, second] = place[second, first] = torch.arange(len(first), device=weights.device)
        return sums[..., place]
