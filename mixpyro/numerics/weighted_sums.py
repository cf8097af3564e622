"""Weighted outer products, squared norms and quadratic forms: the sums that regressions and densities are made of.

All work on columns, [F, N]: with objects as the last axis, products are of whole cache lines. Rows are taken in blocks,
so that what a block is multiplied into stays in a cache.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from mixpyro.numerics.blocks import row_slices, rows_per_block

# Rows that are added up as one row by `column_sums`. Fewer are slower, more are no faster.
SUMMED_ROWS = 128


def weighted_gram(weights: Tensor, u: Tensor) -> Tensor:
    """Σᵢ wᵢₘ uᵢ uᵢ' [M, F, F] of weights [N, M] and rows u [N, F], in float64 whatever they are.

    One matrix product a block: of the w u with u where there are few weights, and else of the w with the products of
    the columns, each pair of them once.
    """
    n_weights, n_columns = weights.shape[1], u.shape[1]
    few_weights = n_weights <= n_columns
    width = n_weights * n_columns if few_weights else _n_pairs(n_columns)
    other = n_columns if few_weights else n_weights
    total = torch.zeros(width, other, dtype=torch.float64, device=u.device)
    for rows in row_slices(len(u), width=width, device=u.device):
        w_columns, u_columns = _float64_columns(weights[rows]), _float64_columns(u[rows])
        if few_weights:
            total.addmm_((w_columns.unsqueeze(1) * u_columns).flatten(0, 1), u_columns.mT)
        else:
            total.addmm_(_pairwise_products(u_columns), w_columns.mT)
    return total.unflatten(0, (n_weights, n_columns)) if few_weights else _symmetric(total.mT, n_columns)


def squared_norms(maps: Tensor, columns: Tensor) -> Tensor:
    """|Aₘ vᵢ|² [N, M] of maps A [M, R, C], in the dtype of the v, which are the columns of a tensor [C, N]."""
    n_maps, n_rows = maps.shape[:2]
    flat = maps.flatten(0, 1).to(columns.dtype)
    result = columns.new_empty(n_maps, columns.shape[1])
    for block, place in _blocks(columns, result, width=len(flat)):
        squares = (flat @ block).square_()
        place.copy_(squares if n_rows == 1 else squares.unflatten(0, (n_maps, n_rows)).sum(1))
    return result.mT


def quadratic_forms(matrices: Tensor, columns: Tensor) -> Tensor:
    """vᵢ'Mₘvᵢ [N, M] of symmetric M [M, C, C], in the dtype of the v, which are the columns of a tensor [C, N].

    For many matrices a fraction of the operations of :func:`squared_norms`, but terms cancel: in float64 that costs no
    digit of what is float32, while of float64 it may leave few.
    """
    first, second = _pairs(len(columns), columns.device)
    # Each pair is there once, and counts for the one below the diagonal too.
    factors = matrices.double()[:, first, second] * torch.where(first == second, 1.0, 2.0)
    result = columns.new_empty(len(matrices), columns.shape[1])
    for block, place in _blocks(columns, result, width=len(first)):
        place.copy_(factors @ _pairwise_products(block.double()))
    return result.mT


def column_sums(rows: Tensor) -> Tensor:
    """Sums of the columns of [N, K], float64 [K], as exact as ``rows.sum(0, dtype=torch.float64)``.

    That converts number by number. Here a block is converted in one go, to a place that stays in a cache, and many rows
    stand side by side.
    """
    if not _worth_converting(rows):
        return rows.sum(0, dtype=torch.float64)
    n_even = rows.shape[0] // SUMMED_ROWS * SUMMED_ROWS
    wide = rows[:n_even].view(-1, SUMMED_ROWS * rows.shape[1])
    step = max(1, rows_per_block(rows.shape[1], rows.device) // SUMMED_ROWS)
    buffer = wide.new_empty(step, wide.shape[1], dtype=torch.float64)
    total = buffer.new_zeros(wide.shape[1])
    for block in wide.split(step):
        total += buffer[: len(block)].copy_(block).sum(0)
    return total.view(SUMMED_ROWS, -1).sum(0) + rows[n_even:].sum(0, dtype=torch.float64)


def _worth_converting(rows: Tensor) -> bool:
    """Whether they are many rows of float32 on a CPU, one after the other, of which nobody wants a gradient."""
    # shape[0], for len() of a tensor is a call of Python's.
    many = rows.shape[0] >= 16 * SUMMED_ROWS
    return many and rows.dtype == torch.float32 and rows.is_cpu and rows.is_contiguous() and not rows.requires_grad


def column_means(rows: Tensor) -> Tensor:
    """Means of the columns of [N, D], summed in float64, without a copy of the rows in it."""
    return column_sums(rows) / len(rows)


def _blocks(columns: Tensor, result: Tensor, *, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Some of the columns at a time, and where what is made of them goes."""
    for rows in row_slices(columns.shape[1], width=width, device=columns.device):
        yield columns[:, rows], result[:, rows]


def _float64_columns(rows: Tensor) -> Tensor:
    return rows.mT.to(torch.float64, memory_format=torch.contiguous_format)


def _pairwise_products(columns: Tensor) -> Tensor:
    """Every row of [F, N] times itself and each after it, [F (F + 1) / 2, N], in the order of :func:`_pairs`."""
    if columns.requires_grad and torch.is_grad_enabled():
        # What is written in place has no gradient.
        return torch.cat([columns[number:] * columns[number] for number in range(len(columns))])
    products = columns.new_empty(_n_pairs(len(columns)), columns.shape[1])
    end = 0
    for number in range(len(columns)):
        start, end = end, end + len(columns) - number
        torch.mul(columns[number:], columns[number], out=products[start:end])
    return products


def _n_pairs(size: int) -> int:
    return size * (size + 1) // 2


def _pairs(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and columns of a matrix's upper triangle."""
    first, second = torch.triu_indices(size, size, device=device)
    return first, second


def _symmetric(upper: Tensor, size: int) -> Tensor:
    """Matrices [M, F, F] of their upper triangles [M, F (F + 1) / 2]."""
    first, second = _pairs(size, upper.device)
    matrices = upper.new_empty(len(upper), size, size)
    matrices[:, first, second] = upper
    matrices[:, second, first] = upper
    return matrices
