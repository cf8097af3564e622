"""Second derivatives of a log likelihood in the predictors of every row."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.numerics.blocks import rows_per_block
from mixpyro.numerics.weighted_sums import weighted_gram

Predictors = Float[Tensor, "N B C"]


class Curvature(NamedTuple):
    """Minus the second derivatives in the predictors of every row: diag(diagonal) − factor factor' [N, B, C, C]."""

    diagonal: Predictors
    factor: Predictors | None = None  # none where they are diagonal

    def product(self, direction: Predictors) -> Predictors:
        """Multiply every row's matrix by a direction.

        Args:
            direction: [N, B, C].

        Returns:
            [N, B, C].
        """
        image = self.diagonal * direction
        if self.factor is None:
            return image
        return image - self.factor * (self.factor * direction).sum(-1, keepdim=True)

    def matrices(self) -> Float[Tensor, "N B C C"]:
        """Return every row's matrix."""
        matrices = torch.diag_embed(self.diagonal)
        return matrices if self.factor is None else matrices - self.factor.unsqueeze(-1) * self.factor.unsqueeze(-2)

    def diagonals(self) -> Predictors:
        """Return the diagonal of every row's matrix."""
        return self.diagonal if self.factor is None else self.diagonal - self.factor.square()

    def rows(self, start: int, end: int) -> "Curvature":
        """Return the curvature of some of the rows.

        Args:
            start: first row.
            end: the row after the last.
        """
        return Curvature(self.diagonal[start:end], None if self.factor is None else self.factor[start:end])


def information_of(curvature: Curvature, columns: Float[Tensor, "N E"]) -> Float[Tensor, "B Q Q"]:
    """Return Σᵢ Wᵢ ⊗ uᵢuᵢ' [B, Q, Q], float64, where Wᵢ is the curvature of row i.

    Args:
        curvature: W of the rows.
        columns: u.
    """
    _, *shape = curvature.diagonal.shape
    n_rows = rows_per_block(shape[0] * shape[1] ** 2, columns.device)
    is_plain = shape[1] == 1 and curvature.factor is None
    total: Tensor | float = 0.0
    for start in range(0, max(1, len(columns)), n_rows):
        part = curvature if n_rows >= len(columns) else curvature.rows(start, start + n_rows)
        matrices = part.diagonal if is_plain else part.matrices()
        found = weighted_gram(matrices.flatten(1), columns[start : start + n_rows])
        total = found if not start else total + found
    assert isinstance(total, Tensor)
    if is_plain:
        return total
    return total.unflatten(0, (*shape, -1)).transpose(2, 3).flatten(3, 4).flatten(1, 2)


def total_of(parts: Sequence[Tensor]) -> Tensor:
    """Return the sum of tensors of one shape, at least one.

    Args:
        parts: of blocks of rows.
    """
    return functools.reduce(torch.add, parts)
