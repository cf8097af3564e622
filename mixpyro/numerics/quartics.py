"""Weighted sums over rows of all products of up to four columns."""

from functools import cached_property

import torch
from torch import Tensor

from mixpyro.numerics.blocks import row_slices
from mixpyro.numerics.pairs import number_of_pairs, pair_indices, pair_products


class Quartics:
    """Sums over rows of the products of every four of F columns, for M weights of each row.

    The product does not depend on the order of the four, so there are F (F + 1) (F + 2) (F + 3) / 24 sums and not F⁴.
    They are one matrix product of the weights with the products of columns. These are made in groups that stay in the
    cache: for the second smallest index b of the four, all a ≤ b times all pairs of columns from b on.

    Args:
        n_columns: F.
        n_weights: M.
        like: a tensor on the device of the rows, in the dtype of the products and the sums.
    """

    def __init__(self, n_columns: int, n_weights: int, like: Tensor) -> None:
        self.n_columns = n_columns
        self.sums = like.new_zeros(number_of_quartics(n_columns), n_weights)
        self._sizes = [(b + 1) * number_of_pairs(n_columns - b) for b in range(n_columns)]

    def add(self, columns: Tensor, weights: Tensor) -> None:
        """Add rows.

        Args:
            columns: [F, N].
            weights: [M, N].
        """
        for rows in row_slices(columns.shape[1], width=max(self._sizes), device=columns.device):
            self._add(columns[:, rows], weights[:, rows])

    def _add(self, columns: Tensor, weights: Tensor) -> None:
        """Add a block of rows."""
        pairs = pair_products(columns)
        buffer = columns.new_empty(max(self._sizes) * columns.shape[1])
        end = 0
        for b, size in enumerate(self._sizes):
            later = pairs[-number_of_pairs(self.n_columns - b) :]
            earlier = columns[: b + 1] * columns[b]
            shape = (b + 1, len(later), columns.shape[1])
            products = buffer[: size * columns.shape[1]].view(shape)
            torch.mul(earlier.unsqueeze(1), later, out=products)
            self.sums[end : end + size].addmm_(products.flatten(0, 1), weights.mT)
            end += size

    def gram(self, weight: int) -> Tensor:
        """Return the sums as a matrix over pairs of columns [F (F + 1) / 2, F (F + 1) / 2].

        Args:
            weight: which of the M.
        """
        return self.sums[:, weight].contiguous()[self._position]

    @cached_property
    def _position(self) -> Tensor:
        """Where the product of two pairs of columns is among the sums."""
        device = self.sums.device
        first, second = pair_indices(self.n_columns, device)
        own = torch.stack([first, second], dim=-1)
        n_pairs = len(own)
        four = torch.cat([own.unsqueeze(1).expand(-1, n_pairs, -1), own.expand(n_pairs, -1, -1)], dim=-1)
        a, b, c, d = four.sort(dim=-1).values.unbind(-1)
        ends = torch.tensor([0, *self._sizes], device=device).cumsum(0)
        n_later, n_after = ((n * (n + 1)) // 2 for n in (self.n_columns - b, self.n_columns - c))
        return ends[b] + a * n_later + n_later - n_after + d - c


def number_of_quartics(n: int) -> int:
    """Count the products of four of n columns.

    Args:
        n: at least 0.
    """
    return n * (n + 1) * (n + 2) * (n + 3) // 24
