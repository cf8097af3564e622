"""Sums of products of columns over the rows of each group, and matrices of each group with groups as the last axis.

What is computed of G groups of few columns are many small matrices. PyTorch's linear algebra is called once for each of
them, which takes longer than the arithmetic. Here a matrix is a list of its rows, and each operation is one on vectors
of G numbers, in any number of runs and components.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mixpyro.numerics.blocks import row_slices
from mixpyro.numerics.pairs import number_of_pairs, pair_indices, pair_products
from mixpyro.numerics.segments import Segments


def products_of_groups(columns: Tensor, segments: Segments) -> Tensor:
    """Sum the products of each pair of columns over the rows of each group.

    Args:
        columns: [C, N], the rows of a group next to each other.
        segments: the groups.

    Returns:
        [C (C + 1) / 2, G], float64, in the order of :func:`mixpyro.numerics.pairs.pair_indices`.
    """
    n_pairs = number_of_pairs(len(columns))
    total = torch.zeros(len(segments), n_pairs, dtype=torch.float64, device=columns.device)
    for rows in row_slices(columns.shape[1], width=n_pairs, device=columns.device):
        products = pair_products(columns[:, rows].double())
        total = total.index_add(0, segments.index[rows], products.mT)
    return total.mT.contiguous()


def unpaired(products: Tensor, size: int) -> Tensor:
    """Make symmetric matrices [..., C, C] of the products of pairs [..., C (C + 1) / 2].

    Args:
        products: in the order of :func:`mixpyro.numerics.pairs.pair_indices`.
        size: C.
    """
    return products[..., _numbers(size, products.device)]


def matrices_of_groups(products: Tensor, size: int) -> Tensor:
    """Make symmetric matrices [C, C, G] of the products of pairs [C (C + 1) / 2, G].

    Args:
        products: as :func:`products_of_groups` returns them.
        size: C.
    """
    return products[_numbers(size, products.device)]


def paired(matrices: Tensor) -> Tensor:
    """Return factors [..., C (C + 1) / 2] of products, whose sum is the trace of a symmetric matrix with theirs.

    Args:
        matrices: symmetric [..., C, C].
    """
    first, second = pair_indices(matrices.shape[-1], matrices.device)
    return matrices[..., first, second] * torch.where(first == second, 1.0, 2.0)


def factors(matrices: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
    """Factorise symmetric positive definite matrices, L L'.

    Args:
        matrices: rows of entries, each [..., G]; the lower triangle is read.

    Returns:
        Rows of the lower triangle of L. The entries are NaN where a matrix is not positive definite.
    """
    found: list[list[Tensor]] = []
    for i, row in enumerate(matrices):
        own: list[Tensor] = []
        for j in range(i + 1):
            rest = row[j]
            for k in range(j):
                rest = rest - own[k] * (own[k] if j == i else found[j][k])
            own.append(rest.sqrt() if j == i else rest / found[j][j])
        found.append(own)
    return found


def solved(factor: list[list[Tensor]], values: Sequence[Tensor]) -> list[Tensor]:
    """Solve L z = v by forward substitution.

    Args:
        factor: as :func:`factors` returns it, entries [..., G].
        values: rows of v, each [..., V, G] for V vectors.

    Returns:
        Rows of z [..., V, G].
    """
    found: list[Tensor] = []
    for own, value in zip(factor, values, strict=True):
        rest = value
        for entry, before in zip(own, found, strict=False):
            rest = rest - entry.unsqueeze(-2) * before
        found.append(rest / own[-1].unsqueeze(-2))
    return found


def solved_back(factor: list[list[Tensor]], values: Sequence[Tensor]) -> list[Tensor]:
    """Solve L' z = v by back substitution; arguments and result as of :func:`solved`."""
    size = len(factor)
    found: list[Tensor] = []
    for i in reversed(range(size)):
        rest = values[i]
        for j in range(i + 1, size):
            rest = rest - factor[j][i].unsqueeze(-2) * found[size - 1 - j]
        found.append(rest / factor[i][i].unsqueeze(-2))
    return found[::-1]


def log_determinant(factor: list[list[Tensor]]) -> Tensor:
    """Return log |L L'| [..., G].

    Args:
        factor: as :func:`factors` returns it.
    """
    logs = [row[-1].log() for row in factor]
    return 2.0 * sum(logs[1:], logs[0])


def _numbers(size: int, device: torch.device) -> Tensor:
    """Return the number of the pair of each entry of a matrix [C, C]."""
    first, second = pair_indices(size, device)
    number = torch.zeros(size, size, dtype=torch.long, device=device)
    number[first, second] = number[second, first] = torch.arange(len(first), device=device)
    return number
