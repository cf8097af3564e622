"""Rows that lie on several processes, for functions that look at all of them once, before a fit."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from mixpyro.distributed.processes import Processes

# The processes that rows lie on, and whether those of this one count; see `on`.
_CURRENT: ContextVar[tuple[Processes, bool] | None] = ContextVar("processes of rows", default=None)


@contextmanager
def on(processes: Processes | None, *, counted: bool) -> Iterator[None]:
    """Let the functions of this module take rows for a part of those of all processes.

    All processes must call them in the same order.

    Args:
        processes: that rows lie on; None for this one alone.
        counted: whether the rows of this one are among them, and no pattern.
    """
    token = _CURRENT.set(None if processes is None else (processes, counted))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def any_of(flag: bool) -> bool:
    """Return whether a flag is set on any process.

    Args:
        flag: of this one.
    """
    current = _CURRENT.get()
    return flag if current is None else current[0].any(flag and current[1])


def gathered(rows: Tensor) -> Tensor:
    """Return the rows of all processes, in their order.

    Args:
        rows: of this one [n, …].
    """
    current = _CURRENT.get()
    if current is None:
        return rows
    own = rows if current[1] else rows[:0]
    if not rows.shape[1:].numel():
        return rows.new_empty(sum(current[0].numbers(len(own))), *rows.shape[1:])
    return torch.cat([one.view(-1, *rows.shape[1:]) for one in current[0].gather(own.contiguous(), kind="rows")])


def total(values: Tensor) -> Tensor:
    """Return the sum of all values of all processes, float64.

    Args:
        values: of the rows of this one.
    """
    return gathered(values.double().sum().unsqueeze(0)).sum()


def drawn(rows: Tensor, most: int) -> Tensor | None:
    """Return which of the rows of this process are in a sample of those of all; None where all are.

    Args:
        rows: of this one.
        most: rows of the sample.

    Returns:
        Numbers of rows in the order of the sample, which :func:`in_order` puts those of all processes into.
    """
    current = _CURRENT.get()
    counts = [len(rows)] if current is None else current[0].numbers(len(rows) * current[1])
    if sum(counts) <= most:
        return None
    # Drawn, for every hundredth row of a panel may be of the same kind.
    generator = torch.Generator("cpu").manual_seed(0)
    return torch.randint(sum(counts), (most,), generator=generator, device="cpu").to(rows.device)


def sampled(rows: Tensor, sample: Tensor) -> Tensor:
    """Return rows of all processes by their numbers.

    Args:
        rows: of this one [n, …].
        sample: as :func:`drawn` returns it.
    """
    current = _CURRENT.get()
    if current is None:
        return rows[sample]
    processes, counted = current
    counts = processes.numbers(len(rows) * counted)
    first = sum(counts[: processes.rank])
    mine = (sample >= first) & (sample < first + counts[processes.rank])
    found, places = gathered(rows[sample[mine] - first] if counted else rows[:0]), gathered(mine.nonzero().squeeze(-1))
    result = torch.empty_like(found)
    result[places] = found
    return result
