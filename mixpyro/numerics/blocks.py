"""Sizes of blocks of rows. Every block size of the library is set here.

Rows are worked on in blocks, so that memory does not grow with N and that what is computed of a block stays in the
cache of a CPU.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Limits(NamedTuple):
    """Limits on the rows of a block; ``LIMITS`` holds those in use.

    A test that needs small blocks replaces it:
    ``monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(numbers=300, least_rows=1))``.
    """

    # Numbers in the largest temporary of a block; 2 MB of float64. With more it leaves the cache: sums over wide rows
    # then take up to four times as long.
    numbers: int = 2**18
    # Rows. With fewer, a matrix product of wide rows takes longer to write its result than to compute it.
    least_rows: int = 128
    # Rows. With more, narrow rows leave the cache, too, while the cost of calls is already below 5 %.
    most_rows: int = 2**15
    # Multiple of the rows above. An E-step makes about a hundred calls a block: with less, these take up to 20 %.
    e_step_factor: int = 4
    # Multiple of `numbers` for a Pyro program, whose every run takes milliseconds. With less, these dominate.
    program_factor: int = 8
    # Multiple of the rows above on a GPU, which has no such cache. With less, it waits for kernels to be launched.
    gpu_factor: int = 64
    # Multiple of `numbers` for the predictors of all rows, which steps of Newton's method read many times. They share
    # one block up to 2²¹ numbers; with more, ten temporaries of them would take more than 160 MB.
    newton_factor: int = 8
    # Numbers in everything that a search holds of the runs that are iterated together; 256 MiB of float64. With more,
    # memory runs out before the search gains anything: so large runs share no function calls worth the name.
    search_numbers: int = 2**25


LIMITS = Limits()

# Rows that `repeated` copies at once. With fewer it is slower; more gain nothing.
COPIED_ROWS = 1024


def rows_per_block(width: int, device: torch.device) -> int:
    """Return how many rows to work on at once.

    Args:
        width: numbers per row in the largest temporary; K E for the products of K weights with E columns.
        device: of the rows.

    Returns:
        As many rows as have ``LIMITS.numbers`` numbers, within ``LIMITS.least_rows`` and ``LIMITS.most_rows``;
        ``LIMITS.gpu_factor`` times as many on a GPU.
    """
    rows = min(LIMITS.most_rows, max(LIMITS.least_rows, LIMITS.numbers // max(1, width)))
    return rows if device.type == "cpu" else LIMITS.gpu_factor * rows


def rows_per_e_step(width: int, device: torch.device) -> int:
    """Return how many rows an E-step works on at once.

    Args:
        width: responsibilities per row; R K for R runs of K components.
        device: of the rows.

    Returns:
        ``LIMITS.e_step_factor`` times :func:`rows_per_block`.
    """
    return LIMITS.e_step_factor * rows_per_block(width, device)


def rows_per_program(width: int, device: torch.device) -> int:
    """Return how many draws or rows one run of a Pyro program evaluates at once.

    Args:
        width: numbers per draw or row in the largest temporary. That of a draw counts all rows, so it may be large.
        device: of the draws.

    Returns:
        As many as have ``LIMITS.program_factor`` times ``LIMITS.numbers`` numbers, at least 1; ``LIMITS.gpu_factor``
        times as many on a GPU.
    """
    numbers = LIMITS.program_factor * LIMITS.numbers
    return max(1, (numbers if device.type == "cpu" else LIMITS.gpu_factor * numbers) // max(1, width))


def rows_per_newton_step(width: int) -> int:
    """Return how many rows Newton's method evaluates at once.

    Args:
        width: predictors per row of all functions together.

    Returns:
        As many as have ``LIMITS.newton_factor`` times ``LIMITS.numbers`` numbers, at least 1, on any device.
    """
    return max(1, LIMITS.newton_factor * LIMITS.numbers // max(1, width))


def runs_at_once(numbers: int) -> int:
    """Return how many runs of a search may be iterated together.

    Args:
        numbers: that a search holds of one run.

    Returns:
        As many as have ``LIMITS.search_numbers`` numbers, at least 1.
    """
    return max(1, LIMITS.search_numbers // max(1, numbers))


def row_slices(n_rows: int, *, width: int, device: torch.device) -> Iterator[slice]:
    """Yield slices of at most :func:`rows_per_block` rows that cover all rows in order.

    Args:
        n_rows: N, at least 0; no rows have no slice.
        width: numbers per row in the largest temporary.
        device: of the rows.
    """
    return slices(n_rows, rows_per_block(width, device))


def slices(n_rows: int, size: int) -> Iterator[slice]:
    """Yield slices that cover all rows in order, as few and as even as possible.

    Args:
        n_rows: N, at least 0; no rows have no slice.
        size: rows of a slice at most, at least 1.
    """
    n_slices = -(-n_rows // size)
    # Even slices need temporaries of one size, whose memory PyTorch uses again.
    even = -(-n_rows // max(1, n_slices))
    return (slice(start, min(start + even, n_rows)) for start in range(0, n_rows, max(1, even)))


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
