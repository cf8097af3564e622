"""Sizes of blocks of rows: every size in the library is set here.

Work on many rows is done a block of rows at a time, so that memory does not grow with N and what a block computes stays
in a CPU's cache.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Limits(NamedTuple):
    """Sizes of blocks on a CPU, and how many times larger they are where a call costs more.

    ``LIMITS`` holds those in use. A test that needs small blocks replaces it:
    ``monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(numbers=300, least_rows=1, most_rows=10))``.
    """

    # Numbers in the largest temporary of a block: 2 MB of float64. More leave the cache: up to three times as slow.
    numbers: int = 2**18
    # Rows. With fewer, a matrix product spends more on writing its result than on the sums over the rows.
    least_rows: int = 128
    # Rows. More do not repay less often the cost of a call, and leave the cache where rows are narrow.
    most_rows: int = 2**15
    # Times the rows of other blocks: an E-step makes about a hundred calls a block, whatever its rows.
    e_step_factor: int = 4
    # Times the numbers of other blocks: a run of a Pyro program costs milliseconds, however few draws it has.
    program_factor: int = 8
    # Times the rows of a CPU's blocks: a GPU has no such cache, and each call costs it the launch of a kernel.
    gpu_factor: int = 64


LIMITS = Limits()

# Rows copied at once by `repeated`: fewer are slower, more are no faster.
COPIED_ROWS = 1024


def rows_per_block(width: int, device: torch.device) -> int:
    """Return how many rows to work on at once.

    Args:
        width: numbers per row in the largest temporary, at least 1; K E for a product of K weights and E columns.
        device: where the rows are; a GPU takes 64 times as many as a CPU.

    Returns:
        2¹⁸ / ``width``, but at least 128 and at most 32,768; all of them 64 times as many on a GPU.
    """
    rows = min(LIMITS.most_rows, max(LIMITS.least_rows, LIMITS.numbers // width))
    return rows if device.type == "cpu" else LIMITS.gpu_factor * rows


def rows_per_e_step(width: int, device: torch.device) -> int:
    """Return how many rows an E-step takes at once.

    Args:
        width: responsibilities per row, R K for R runs of K components, at least 1.
        device: where the rows are.

    Returns:
        Four times :func:`rows_per_block`.
    """
    return LIMITS.e_step_factor * rows_per_block(width, device)


def rows_per_program(width: int, device: torch.device) -> int:
    """Return how many draws or rows one run of a Pyro program evaluates at once.

    Args:
        width: numbers per draw or row in the largest temporary, at least 1. It is large, as all rows of a draw count.
        device: where the numbers are; a GPU takes 64 times as many as a CPU.

    Returns:
        2²¹ / ``width``, but at least 1; 64 times as many on a GPU.
    """
    numbers = LIMITS.program_factor * LIMITS.numbers
    return max(1, (numbers if device.type == "cpu" else LIMITS.gpu_factor * numbers) // width)


def row_slices(n_rows: int, *, width: int, device: torch.device) -> Iterator[slice]:
    """Yield slices that cover all rows, :func:`rows_per_block` of them at a time.

    Args:
        n_rows: N, at least 0; of no rows there is no slice.
        width: numbers per row in the largest temporary, at least 1.
        device: where the rows are.
    """
    return slices(n_rows, rows_per_block(width, device))


def slices(n_rows: int, size: int) -> Iterator[slice]:
    """Yield slices that cover all rows, ``size`` of them at a time.

    Args:
        n_rows: N, at least 0; of no rows there is no slice.
        size: rows per slice, at least 1; the last slice may have fewer.
    """
    return (slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size))


def in_blocks(function: Callable[[Tensor], Tensor], rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Apply a function of single rows, a block of rows at a time.

    Args:
        function: maps rows [n, K] to rows [n, K], each from its own row alone.
        rows: [N, K].
        dtype: of the result.

    Returns:
        ``function(rows)`` [N, K]. On a CPU its temporaries stay in the cache; on a GPU there is one block.
    """
    # Not by rows_per_block: of a hundred rows that takes a quarter of the time.
    if rows.numel() <= LIMITS.numbers or not rows.is_cpu:
        return function(rows).to(dtype)
    result = rows.new_empty(rows.shape, dtype=dtype)
    for block in row_slices(len(rows), width=rows.shape[1], device=rows.device):
        result[block] = function(rows[block])
    return result


def repeated(row: Tensor, n_rows: int) -> Tensor:
    """Copy one row to N rows.

    Args:
        row: [1, K], or [N, K], which is returned as it is.
        n_rows: N, at least 0.

    Returns:
        Rows [N, K] that may be changed one by one, unlike those of :meth:`torch.Tensor.expand`.
    """
    if len(row) == n_rows:
        return row
    block = row.expand(min(n_rows, COPIED_ROWS), -1).clone()
    if len(block) == n_rows:
        return block
    # PyTorch copies the last axis at once: make that many rows, not one.
    result = row.new_empty(n_rows, row.shape[1])
    n_blocks = n_rows // len(block)
    result[: n_blocks * len(block)].view(n_blocks, -1).copy_(block.view(1, -1))
    result[n_blocks * len(block) :] = block[: n_rows % len(block)]
    return result
