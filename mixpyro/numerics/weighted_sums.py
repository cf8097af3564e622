"""Weighted outer products, squared norms and quadratic forms: the sums that regressions and densities are made of.

All work on columns, [F, N]: with objects as the last axis, products are of whole cache lines. Rows are taken in blocks,
so that what a block is multiplied into stays in a cache.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

# Rows worked on together: no more than this, and fewer where their products would be more than so many numbers.
BLOCK_ROWS, LEAST_ROWS = 8192, 128
BLOCK_NUMBERS = 2**20
# A GPU has no such cache, and each block costs it a wait for its launch.
GPU_FACTOR = 64


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
    n_rows = block_rows(width, u.device)
    for w_rows, u_rows in zip(weights.split(n_rows), u.split(n_rows), strict=True):
        w_columns, u_columns = _float64_columns(w_rows), _float64_columns(u_rows)
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


def column_means(rows: Tensor) -> Tensor:
    """Means of the columns of [N, D], summed in float64, without a copy of the rows in it."""
    sums = [block.sum(0, dtype=torch.float64) for block in rows.split(4 * BLOCK_ROWS)]
    return torch.stack(sums).sum(0) / len(rows)


def block_rows(width: int, device: torch.device) -> int:
    """How many rows to work on together where each has ``width`` numbers of its own."""
    n_rows = min(BLOCK_ROWS, max(LEAST_ROWS, BLOCK_NUMBERS // width))
    return n_rows if device.type == "cpu" else GPU_FACTOR * n_rows


def _blocks(columns: Tensor, result: Tensor, *, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Some of the columns at a time, and where what is made of them goes."""
    n_rows = block_rows(width, columns.device)
    for start in range(0, columns.shape[1], n_rows):
        yield columns[:, start : start + n_rows], result[:, start : start + n_rows]


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
