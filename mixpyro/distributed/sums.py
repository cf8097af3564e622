"""Sums over the rows of an update that are made block by block; see :mod:`mixpyro.distributed.blocks`.

A part of a mixture that reads its rows in an update asks here which of them to add up by themselves. Outside of a fit
in blocks all rows are one block.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from mixpyro.distributed import rows
from mixpyro.distributed.blocks import Blocks

# Bytes that an address is a multiple of where PyTorch has allocated it.
ALIGNMENT = 64

_CURRENT: ContextVar[tuple[Blocks, Sequence[slice]] | None] = ContextVar("blocks of rows", default=None)


@contextmanager
def over(blocks: Blocks | None, slices: Sequence[slice]) -> Iterator[None]:
    """Let sums of an update be those of blocks.

    Args:
        blocks: of all processes; None for one block alone.
        slices: rows of each block of this process.
    """
    token = _CURRENT.set(None if blocks is None else (blocks, slices))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current() -> Blocks | None:
    """Return the blocks that sums are made over; None for one block alone."""
    found = _CURRENT.get()
    return None if found is None else found[0]


def slices_of(n_rows: int) -> Sequence[slice]:
    """Return the rows of each block of this process.

    Args:
        n_rows: how many rows an update reads.

    Raises:
        ValueError: if these are not the rows of the fit.
    """
    found = _CURRENT.get()
    if found is None:
        return [slice(0, n_rows)]
    if found[1][-1].stop != n_rows:
        raise ValueError(
            f"`y` must have all outputs where parts are estimated from more rows than one block has; got rows without "
            f"any, {n_rows} of {found[1][-1].stop} are left. Leave such rows out."
        )
    return found[1]


def parts(*data: Tensor, dim: int = 0) -> list[tuple[Tensor, ...]]:
    """Return the rows of each block of this process, which lie in memory as on any other process.

    Digits of a sum depend on that. Outside of a fit in blocks these are the tensors as they are.

    Args:
        *data: of the rows of an update.
        dim: their axis of rows.
    """
    slices = slices_of(data[0].shape[dim])
    if _CURRENT.get() is None:
        return [data]
    return [tuple(placed(one.narrow(dim, own.start, own.stop - own.start)) for one in data) for own in slices]


def everywhere(*data: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Return the rows of all processes, in their order, for what is seldom and reads all of them at once.

    Args:
        *data: of the rows of an update.
        dim: their axis of rows.
    """
    found = _CURRENT.get()
    if found is None or found[0].processes is None:
        return data
    with rows.on(found[0].processes, counted=found[0].holds_any):
        firsts = [rows.gathered(one.movedim(dim, 0).contiguous()) for one in data]
    return tuple(one.movedim(0, dim).contiguous() for one in firsts)


def placed(tensor: Tensor) -> Tensor:
    """Return a tensor that lies in memory as PyTorch would have allocated it; the same where it does.

    Args:
        tensor: any.
    """
    is_placed = tensor.is_contiguous() and tensor.data_ptr() % ALIGNMENT == 0
    return tensor if is_placed else tensor.clone(memory_format=torch.contiguous_format)


def total(parts: Sequence[Tensor]) -> Tensor:
    """Return the sum of a value of every block of all processes, in their order.

    Args:
        parts: of each block of this process.
    """
    found = _CURRENT.get()
    return parts[0] if found is None else found[0].total([[part] for part in parts])[0]


def rows_of_all(own: Tensor, numbers: Tensor) -> Tensor:
    """Return some of the rows of all processes.

    Args:
        own: of this one [n, …].
        numbers: of the rows, of all processes.
    """
    found = _CURRENT.get()
    if found is None or found[0].processes is None:
        return own[numbers.to(own.device)]
    blocks = found[0]
    assert blocks.processes is not None
    held = len(own) if blocks.holds_any else 0
    first = sum(blocks.processes.numbers(held)[: blocks.processes.rank])
    places = ((numbers >= first) & (numbers < first + held)).nonzero().squeeze(-1)
    found_here = own[(numbers[places] - first).to(own.device)]
    values = torch.cat(blocks.processes.gather(found_here.contiguous(), kind="rows of a sample"))
    order = torch.cat(blocks.processes.gather(places, kind="places of these rows"))
    result = values.new_empty(len(numbers), *own.shape[1:]).reshape(len(numbers), -1)
    result[order.to(own.device)] = values.reshape(len(numbers), -1)
    return result.reshape(len(numbers), *own.shape[1:])


def n_rows_of_all(n_rows: int) -> int:
    """Return how many rows all processes have.

    Args:
        n_rows: of this one.
    """
    found = _CURRENT.get()
    if found is None or found[0].processes is None:
        return n_rows
    return sum(found[0].processes.numbers(n_rows if found[0].holds_any else 0))
