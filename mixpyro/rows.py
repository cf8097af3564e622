"""Many rows of few numbers, at the speed of memory: PyTorch takes a row at a time where it could take many."""

from collections.abc import Callable

import torch
from torch import Tensor

# Rows whose sum is taken in float32 before the sums are added in float64: a rounding error of 1e-7 or less.
SUMMED_TOGETHER = 128
# Rows copied together, and numbers worked on together: they and some temporaries stay in a cache.
COPIED_TOGETHER = 1024
BLOCK_NUMBERS = 2**19


def column_sums(rows: Tensor) -> Tensor:
    """Sums of the columns of [N, K], float64 [K], within 1e-6 of exact where the rows are float32 and non-negative.

    ``rows.sum(0, dtype=torch.float64)`` converts number by number, which takes twenty times as long.
    """
    # shape[0], for len() of a tensor is a call of Python's.
    if rows.dtype != torch.float32 or rows.shape[0] < 16 * SUMMED_TOGETHER:
        return rows.sum(0, dtype=torch.float64)
    n_even = len(rows) // SUMMED_TOGETHER * SUMMED_TOGETHER
    parts = rows[:n_even].unflatten(0, (-1, SUMMED_TOGETHER)).sum(1)
    return parts.sum(0, dtype=torch.float64) + rows[n_even:].sum(0, dtype=torch.float64)


def repeated(row: Tensor, n_rows: int) -> Tensor:
    """N rows [N, K], each of them ``row`` [1, K]; what has N rows already is returned as it is."""
    if len(row) == n_rows:
        return row
    block = row.expand(min(n_rows, COPIED_TOGETHER), -1).clone()
    if len(block) == n_rows:
        return block
    # A copy moves the last axis at once: many rows on end, not one.
    result = row.new_empty(n_rows, row.shape[1])
    n_blocks = n_rows // len(block)
    result[: n_blocks * len(block)].view(n_blocks, -1).copy_(block.view(1, -1))
    result[n_blocks * len(block) :] = block[: n_rows % len(block)]
    return result


def in_blocks(function: Callable[[Tensor], Tensor], rows: Tensor, dtype: torch.dtype) -> Tensor:
    """``function(rows)`` [N, K] in ``dtype``, of a function of each row, whose temporaries stay in a cache on a CPU."""
    if rows.numel() <= BLOCK_NUMBERS or rows.device.type != "cpu":
        return function(rows).to(dtype)
    result = rows.new_empty(rows.shape, dtype=dtype)
    step = max(1, BLOCK_NUMBERS // rows.shape[1])
    for block, place in zip(rows.split(step), result.split(step), strict=True):
        place.copy_(function(block))
    return result
