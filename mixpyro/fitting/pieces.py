"""Blocks of the rows of a fit, and sums over those of all processes, with the digits of one."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from mixpyro.distributed.blocks import Blocks, block_size
from mixpyro.distributed.sums import placed
from mixpyro.fitting.table import Table
from mixpyro.numerics import nested
from mixpyro.numerics.segments import Segments
from mixpyro.shapes import Value

Part = TypeVar("Part")


def in_pieces(table: Table, blocks: Blocks | None = None, *, n_rows: int | None = None) -> Table:
    """Return a table with its blocks, each with tensors of its own; without blocks where there is one alone.

    A block is computed with by itself, whatever lies beside it in memory, so that its digits are the same on any
    process.

    Args:
        table: the objects of this process, without columns.
        blocks: of all processes; by default there is one process.
        n_rows: of all processes; those of the table by default.
    """
    if blocks is None:
        size = block_size(table.size, table.x.device)
        if table.size <= size:
            return _apart(table, slice(0, table.size))
        blocks = Blocks(size, table.size, 0, table.size)
    pieces = tuple(_apart(table, one) for one in blocks.slices)
    weights = [[piece.x.new_zeros(()) if piece.weights is None else piece.weights.sum()] for piece in pieces]
    # Of all processes, in the order of the blocks.
    weight = float(blocks.total(weights)[0])
    n_objects = float(blocks.n_objects) if table.weights is None else weight
    total = n_objects, blocks.n_objects, len(table.x) if n_rows is None else n_rows
    return table._replace(blocks_of_all=blocks, pieces=pieces, total=total, columns=())


def parts(table: Table, width: int) -> Iterator[tuple[slice, Table]]:
    """Yield the objects of this process in slices small enough for an E-step's temporaries to stay in a cache.

    Args:
        table: with columns.
        width: numbers that each temporary has for a row, runs times components.

    Yields:
        Which objects they are, and a table of them.
    """
    for _, rows, part in _each(table, width):
        yield rows, part


def summed(
    table: Table, width: int, function: Callable[[Table, slice], Value], *, digest: Callable[[], int] | None = None
) -> Value:
    """Return the sum over the objects of all processes of what a function returns for some of them.

    Args:
        table: with columns.
        width: as for :func:`parts`.
        function: called with a table of some objects and which they are among those of this process; returns a nest of
            tensors, sums over the objects.
        digest: of a state that all processes must share, computed where there are several.
    """
    totals: list[Value] = []
    for number, rows, part in _each(table, width):
        found = function(part, rows)
        if number == len(totals):
            totals.append(found)
        else:
            totals[-1] = nested.add(totals[-1], found)
    return total_of(table, totals, digest=digest)


def total_of(table: Table, totals: "list[Value]", *, digest: Callable[[], int] | None = None) -> Value:
    """Return the sum of values of the blocks of all processes.

    Args:
        table: any.
        totals: of each block of this process.
        digest: as for :func:`summed`.
    """
    blocks = table.blocks_of_all
    if blocks is None:
        return totals[0]
    code = 0 if digest is None or blocks.processes is None else digest()
    return nested.with_tensors(totals[0], blocks.total([nested.tensors(one) for one in totals], digest=code))


def pieces_of(table: Table) -> list[tuple[slice, Table]]:
    """Return the blocks of this process: which objects they are, and their tables.

    Args:
        table: any.
    """
    if table.blocks_of_all is None:
        return [(slice(0, table.size), table)]
    return list(zip(table.blocks_of_all.slices, table.pieces, strict=True))


def of_objects(values: Tensor, objects: slice, *, dim: int = -1) -> Tensor:
    """Return values of some objects of this process, which lie in memory as on any other process.

    The digits of a matrix product depend on the strides of its factors, and those of a plain slice on how many objects
    the process holds.

    Args:
        values: of all objects of this process.
        objects: which of them.
        dim: their axis of objects.
    """
    return placed(values.narrow(dim, objects.start, objects.stop - objects.start))


def slices_of_pieces(table: Table) -> tuple[list[slice], list[slice]]:
    """Return the objects and the rows of each block of this process.

    Args:
        table: any.
    """
    objects, rows, end = list[slice](), list[slice](), 0
    for own, piece in pieces_of(table):
        objects.append(own)
        rows.append(slice(end, end + len(piece.x)))
        end += len(piece.x)
    return objects, rows


def code_of(tensors: list[Tensor]) -> int:
    """Return a number that two lists of tensors share if they are equal to the last digit, and hardly ever else.

    Args:
        tensors: floating ones.
    """
    if not tensors:
        return 0
    flat = torch.cat([one.detach().reshape(-1).double().cpu() for one in tensors])
    places = torch.arange(1, 2 * len(flat), 2, device="cpu")
    return int((flat.view(torch.int64) * places).sum()) % 2**62


def _each(table: Table, width: int) -> Iterator[tuple[int, slice, Table]]:
    """Yield parts with the number of their block."""
    for number, (own, piece) in enumerate(pieces_of(table)):
        for rows in piece.blocks(width):
            yield number, slice(own.start + rows.start, own.start + rows.stop), piece.block(rows)


def _apart(table: Table, objects: slice) -> Table:
    """Return a block of objects with tensors that begin where PyTorch would have allocated them."""
    part = table.block(objects)
    if part is table:
        part = table._replace(groups=None)

    x, y = placed(part.x), placed(part.y)
    shares_x = part.gate_x.data_ptr() == part.x.data_ptr() and part.gate_x.shape == part.x.shape
    gate_x = x if shares_x else placed(part.gate_x)
    segments = None if part.segments is None else Segments(part.segments.sizes)
    own: dict[str, Any] = {
        name: None if value is None else placed(value)
        for name, value in (("weights", part.weights), ("labels", part.labels), ("start", part.start))
    }
    return part._replace(x=x, y=y, gate_x=gate_x, segments=segments, columns=(), **own)
