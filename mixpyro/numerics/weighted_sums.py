"""Weighted sums over rows: outer products, squared norms, quadratic forms and columns.

Regressions and densities are made of these sums. Most functions take columns [C, N]: with objects as the last axis,
PyTorch reads and writes whole cache lines. Rows are taken in blocks, see :mod:`mixpyro.numerics.blocks`.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from mixpyro.arguments import has_derivatives
from mixpyro.numerics import blocks
from mixpyro.numerics.blocks import row_slices, rows_per_block
from mixpyro.numerics.pairs import number_of_pairs, pair_indices, pair_products, places_of_pairs

# Rows that `column_sums` adds up side by side, as one long row. With fewer, PyTorch's sum is slower; more gain nothing.
SUMMED_ROWS = 128


def weighted_gram(weights: Tensor, u: Tensor) -> Tensor:
    """Sum the weighted outer products of rows.

    The sum of a block is one matrix product. With few weights it is that of the weighted rows with the rows, else that
    of the weights with the products of each pair of columns.

    Args:
        weights: w [N, M], of any sign.
        u: rows [N, F].

    Returns:
        Σᵢ wᵢₘ uᵢ uᵢ' [M, F, F], symmetric, float64 whatever the dtype of the arguments.
    """
    n_weights, n_columns = weights.shape[1], u.shape[1]
    few_weights = n_weights <= n_columns
    width = n_weights * n_columns if few_weights else number_of_pairs(n_columns)
    other = n_columns if few_weights else n_weights
    if len(u) <= rows_per_block(width, u.device):
        total = torch.mm(*_factors(weights, u, few_weights=few_weights))
    else:
        total = torch.zeros(width, other, dtype=torch.float64, device=u.device)
        for rows in row_slices(len(u), width=width, device=u.device):
            total.addmm_(*_factors(weights[rows], u[rows], few_weights=few_weights))
    return total.unflatten(0, (n_weights, n_columns)) if few_weights else _symmetric(total.mT, n_columns)


def _factors(weights: Tensor, u: Tensor, *, few_weights: bool) -> tuple[Tensor, Tensor]:
    """Return the two matrices whose product is the sum of a block of rows."""
    w_columns, u_columns = _float64_columns(weights), _float64_columns(u)
    if few_weights:
        return (w_columns.unsqueeze(1) * u_columns).flatten(0, 1), u_columns.mT
    return pair_products(u_columns), w_columns.mT


def squared_norms(maps: Tensor, columns: Tensor) -> Tensor:
    """Compute the squared norms of linear maps of vectors.

    Args:
        maps: matrices A [M, R, C].
        columns: vectors v, the columns of a tensor [C, N].

    Returns:
        |Aₘ vᵢ|² [N, M], in the dtype of ``columns``; each is at least 0.
    """
    n_maps, n_rows = maps.shape[:2]
    flat = maps.flatten(0, 1).to(columns.dtype)
    result = columns.new_empty(n_maps, columns.shape[1])
    for block, part in _blocks(columns, result, width=len(flat)):
        images = flat @ block
        # In place there is no rule of vmap.
        squares = images.square() if has_derivatives(images) else images.square_()
        part.copy_(squares if n_rows == 1 else squares.unflatten(0, (n_maps, n_rows)).sum(1))
    return result.mT


def quadratic_forms(matrices: Tensor, columns: Tensor) -> Tensor:
    """Compute quadratic forms of vectors.

    For many matrices this takes a fraction of the operations of :func:`squared_norms`, but terms of opposite sign
    cancel. The sums are float64: for float32 vectors cancellation costs no digit, for float64 it may leave few.

    Args:
        matrices: symmetric M [M, C, C].
        columns: vectors v, the columns of a tensor [C, N].

    Returns:
        vᵢ'Mₘvᵢ [N, M], in the dtype of ``columns``.
    """
    first, second = pair_indices(len(columns), columns.device)
    # A pair off the diagonal is listed once and counts twice.
    factors = matrices.double()[:, first, second] * torch.where(first == second, 1.0, 2.0)
    result = columns.new_empty(len(matrices), columns.shape[1])
    for block, part in _blocks(columns, result, width=len(first)):
        part.copy_(factors @ pair_products(block.double()))
    return result.mT


def column_sums(rows: Tensor) -> Tensor:
    """Sum each column in float64.

    ``rows.sum(0, dtype=torch.float64)`` converts number by number. Here a block of float32 rows is converted at once,
    into a buffer that stays in the cache, and many rows are added up side by side: up to five times as fast.

    Args:
        rows: [N, K], of any floating dtype.

    Returns:
        Σᵢ rowsᵢ [K], float64.
    """
    if not _converts_in_blocks(rows):
        return rows.sum(0, dtype=torch.float64)
    n_even = rows.shape[0] // SUMMED_ROWS * SUMMED_ROWS
    wide = rows[:n_even].view(-1, SUMMED_ROWS * rows.shape[1])
    size = max(1, rows_per_block(rows.shape[1], rows.device) // SUMMED_ROWS)
    buffer = wide.new_empty(size, wide.shape[1], dtype=torch.float64)
    total = buffer.new_zeros(wide.shape[1])
    for block in wide.split(size):
        total += buffer[: len(block)].copy_(block).sum(0)
    return total.view(SUMMED_ROWS, -1).sum(0) + rows[n_even:].sum(0, dtype=torch.float64)


def quick_column_sums(rows: Tensor) -> Tensor:
    """Sum each column of numbers that are not negative, with an error of the size of float32's own rounding.

    Some float32 rows at a time are added up as they are, and their sums in float64: four to seven times as fast as
    :func:`column_sums`.

    Args:
        rows: [N, K], of any floating dtype, at least 0.

    Returns:
        Σᵢ rowsᵢ [K], float64.
    """
    if not _converts_in_blocks(rows):
        return rows.sum(0, dtype=torch.float64)
    n_even = rows.shape[0] // SUMMED_ROWS * SUMMED_ROWS
    sums = rows[:n_even].view(-1, SUMMED_ROWS, rows.shape[1]).sum(1)
    total = sums.sum(0, dtype=torch.float64) + rows[n_even:].sum(0, dtype=torch.float64)
    # A sum of some rows may be too large for float32, where that of all is not for float64.
    return total if bool(total.isfinite().all()) else column_sums(rows)


def _converts_in_blocks(rows: Tensor) -> bool:
    """Check for more than a block of contiguous float32 rows on a CPU, of which no gradient is needed."""
    many = rows.numel() > blocks.LIMITS.numbers
    return many and rows.dtype == torch.float32 and rows.is_cpu and rows.is_contiguous() and not rows.requires_grad


def _blocks(columns: Tensor, result: Tensor, *, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield blocks of the columns, each with the part of the result that belongs to it."""
    for rows in row_slices(columns.shape[1], width=width, device=columns.device):
        yield columns[:, rows], result[:, rows]


def _float64_columns(rows: Tensor) -> Tensor:
    """Transpose rows [N, F] to contiguous float64 columns [F, N]."""
    return rows.mT.to(torch.float64, memory_format=torch.contiguous_format)


def _symmetric(upper: Tensor, size: int) -> Tensor:
    """Fill symmetric matrices [M, F, F] from their upper triangles [M, F (F + 1) / 2]."""
    return upper.index_select(1, places_of_pairs(size, upper.device)).unflatten(1, (size, size))
