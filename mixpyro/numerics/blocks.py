"""Many rows of few numbers, at the speed of memory: PyTorch takes a row at a time where it could take many."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

# Rows that are summed as one.
SIDE_BY_SIDE = 128
# Rows copied together, and numbers worked on together: they and some temporaries stay in a cache.
COPIED_TOGETHER = 1024
BLOCK_NUMBERS = 2**19


def column_sums(rows: Tensor) -> Tensor:
    """Sums of the columns of [N, K], float64 [K], as exact as ``rows.sum(0, dtype=torch.float64)``.

    That converts number by number. Here blocks are converted in one go, to a place that stays in a cache, and many rows
    stand side by side.
    """
    if not _worth_converting(rows):
        return rows.sum(0, dtype=torch.float64)
    n_even = rows.shape[0] // SIDE_BY_SIDE * SIDE_BY_SIDE
    wide = rows[:n_even].view(-1, SIDE_BY_SIDE * rows.shape[1])
    place = wide.new_empty(max(1, BLOCK_NUMBERS // wide.shape[1]), wide.shape[1], dtype=torch.float64)
    total = place.new_zeros(wide.shape[1])
    for block in wide.split(len(place)):
        total += place[: len(block)].copy_(block).sum(0)
    return total.view(SIDE_BY_SIDE, -1).sum(0) + rows[n_even:].sum(0, dtype=torch.float64)


def _worth_converting(rows: Tensor) -> bool:
    """Whether they are many rows of float32 on a CPU, one after the other, of which nobody wants a gradient."""
    # shape[0], for len() of a tensor is a call of Python's.
    many = rows.shape[0] >= 16 * SIDE_BY_SIDE
    return many and rows.dtype == torch.float32 and rows.is_cpu and rows.is_contiguous() and not rows.requires_grad


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


def rows_per_block(width: int, device: torch.device) -> int:
    """Return the number of rows whose ``width`` numbers each stay in a cache on a CPU, far more on a GPU."""
    n_rows = min(8192, max(128, 2**18 // max(1, width)))
    return n_rows if device.type == "cpu" else 64 * n_rows


def row_slices(n_rows: int, *, width: int, device: torch.device) -> Iterator[slice]:
    """Return slices of blocks of rows."""
    step = rows_per_block(width, device)
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))
