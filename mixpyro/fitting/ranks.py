"""The rows of a fit on many processes: which rank holds which objects, and which it was given."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixpyro.arguments.signals import uninterrupted
from mixpyro.distributed.blocks import Blocks, Move, block_size, held
from mixpyro.distributed.processes import Processes
from mixpyro.fitting.pieces import in_pieces
from mixpyro.fitting.rows_of_all import everywhere, tensors_of
from mixpyro.fitting.rows_of_fit import RowsOfFit
from mixpyro.fitting.table import Table
from mixpyro.groups import Groups, groups_of
from mixpyro.numerics.segments import Segments


class Ranks:
    """How the objects of a fit lie on the ranks: as they were given, and in whole blocks.

    Args:
        table: what this rank was given, without columns and without objects of weight zero; perhaps without any.
        processes: of the fit.
        whole: whether every rank must hold all objects, however many.

    Attributes:
        table: what this rank holds in the fit: its blocks of the objects, or all of them where they are one block. What
            one rank would compute for the others each computes by itself then, with the digits of one process.
        blocks: of the table; None where every rank holds all objects.
    """

    def __init__(self, table: Table, processes: Processes, *, whole: bool = False) -> None:
        self.processes = processes
        table = alike(table, processes)
        self.counts = processes.numbers(table.size)
        if not sum(self.counts):
            raise ValueError("`x` must have a row on some rank; got none on any.")
        self.start = sum(self.counts[: processes.rank])
        size = block_size(sum(self.counts), table.x.device)
        self.blocks: Blocks | None = None
        self.moves: list[Move] = []
        self.table = everywhere(table, processes) if whole or sum(self.counts) <= size else self._in_blocks(table, size)

    def _in_blocks(self, table: Table, size: int) -> Table:
        """Return the objects that this rank shall hold, in blocks."""
        processes = self.processes
        firsts, kept, self.moves = held(self.counts, size)
        own = self._moved(table, firsts[processes.rank], kept[processes.rank])
        said = processes.objects((len(table.x), first_of(table)))
        n_rows, total = sum(one[0] for one in said), sum(self.counts)
        self.blocks = Blocks(size, total, firsts[processes.rank], kept[processes.rank], processes)
        if not own.size:
            pattern = next(one[1] for one in said if one[1] is not None)
            own = pattern._replace(**{n: None if v is None else v.to(table.x.device) for n, v in tensors_of(pattern)})
        return in_pieces(own._replace(groups=None), self.blocks, n_rows=n_rows)

    def given(self, values: Tensor) -> Tensor:
        """Return values of the objects that this rank was given, from those that hold them [n, …].

        Args:
            values: of the objects that this rank holds [n, …].
        """
        values = values.contiguous()
        first, count = self.start, self.counts[self.processes.rank]
        if self.blocks is None:
            return values[first : first + count].clone()
        back = [Move(move.target, move.source, move.first, move.n_objects) for move in self.moves]
        if not self.blocks.n_held:
            values = values[:0]
        return self._exchanged(values, self.blocks.first, back, first, count)

    def _moved(self, table: Table, first: int, count: int) -> Table:
        """Return the objects that this rank shall hold."""
        if not self.moves:
            return table
        of_each = torch.ones(table.size, dtype=torch.long, device="cpu")
        sizes = of_each if table.segments is None else table.segments.sizes
        moved = self._exchanged(sizes.cpu(), self.start, self.moves, first, count)
        shared = table.gate_x.data_ptr() == table.x.data_ptr() and table.segments is None
        shared = not self.processes.any(not shared)
        sent = [(name, value.dtype, value.shape[1:]) for name, value in tensors_of(table) if value is not None]
        self.processes.agree(sent)  # Else one would wait for what the other does not send.

        def of_objects(values: Tensor | None) -> Tensor | None:
            return None if values is None else self._exchanged(values, self.start, self.moves, first, count)

        def of_rows(values: Tensor) -> Tensor:
            if table.segments is None:
                return self._exchanged(values, self.start, self.moves, first, count)
            ends = torch.cat([torch.zeros(1, dtype=torch.long, device="cpu"), sizes.cpu().cumsum(0)])
            new_ends = torch.cat([torch.zeros(1, dtype=torch.long, device="cpu"), moved.cumsum(0)])
            return self._exchanged(values, self.start, self.moves, first, count, (ends, new_ends))

        x, y = of_rows(table.x), of_rows(table.y)
        gate_x = x if shared else of_objects(table.gate_x)
        assert gate_x is not None
        segments = None if table.segments is None else Segments(moved.to(table.x.device))
        own: dict[str, Any] = {"weights": of_objects(table.weights), "labels": of_objects(table.labels)}
        return table._replace(
            x=x, y=y, gate_x=gate_x, segments=segments, start=of_objects(table.start), groups=None, **own
        )

    @uninterrupted
    def _exchanged(
        self,
        values: Tensor,
        start: int,
        moves: Sequence[Move],
        first: int,
        count: int,
        ends: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Return values of objects ``first`` to ``first + count``, given those from ``start`` on.

        With ends, values are of rows, and those of the objects before and after are told by them.
        """
        rank = self.processes.rank
        old_ends, new_ends = ends or (None, None)

        def places(at: int, n: int, base: int, known: Tensor | None) -> slice:
            low, high = at - base, at - base + n
            return slice(low, high) if known is None else slice(int(known[low]), int(known[high]))

        n_values = count if new_ends is None else int(new_ends[-1])
        result = values.new_empty(n_values, *values.shape[1:])
        n_given = len(values) if old_ends is None else len(old_ends) - 1
        low, high = max(start, first), min(start + n_given, first + count)
        if high > low:
            result[places(low, high - low, first, new_ends)] = values[places(low, high - low, start, old_ends)]
        for move in moves:
            if move.source == rank:
                self.processes.send(values[places(move.first, move.n_objects, start, old_ends)], to=move.target)
            elif move.target == rank:
                own = places(move.first, move.n_objects, first, new_ends)
                shape = (own.stop - own.start, *values.shape[1:])
                result[own] = self.processes.receive(values, shape, source=move.source)
        return result


def first_of(table: Table) -> Table | None:
    """Return the first object of a table on the CPU, which ranks without any take for a pattern.

    Args:
        table: without columns.
    """
    if not table.size:
        return None
    part = table.block(torch.zeros(1, dtype=torch.long, device=table.x.device))
    segments = None if part.segments is None else Segments(part.segments.sizes.cpu())
    part = part._replace(segments=segments, columns=(), groups=None)
    own: dict[str, Any] = {name: None if value is None else value.cpu() for name, value in tensors_of(part)}
    return part._replace(**own)


def alike(table: Table, processes: Processes) -> Table:
    """Return a table that has weights, labels and segments if that of any rank has.

    Args:
        table: of this rank.
        processes: of the fit.
    """
    ones = table.x.new_ones(table.size)
    if processes.any(table.weights is not None) and table.weights is None:
        table = table._replace(weights=ones)
    if processes.any(table.labels is not None) and table.labels is None:
        table = table._replace(labels=ones.long().neg())
    if processes.any(table.segments is not None) and table.segments is None:
        table = table._replace(segments=Segments(ones.long()))
    return table._replace(misses=processes.any(table.misses), columns=())


def refuse_split_groups(groups: Groups | None, processes: Processes) -> None:
    """Raise if rows of one group are on two ranks.

    Args:
        groups: of the rows of this rank.
        processes: of the fit.

    Raises:
        ValueError: on all ranks, with the group.
    """
    if not processes.any(groups is not None):
        return
    ids = () if groups is None else groups.ids
    codes = torch.tensor([code_of_group(one) for one in ids], dtype=torch.long, device="cpu")
    found = processes.gather(codes, kind="groups")
    everywhere = torch.cat(found)
    kinds, counts = everywhere.unique(return_counts=True)
    twice = kinds[counts > 1]
    if len(twice):
        code = twice[0]
        ranks = [rank for rank, own in enumerate(found) if bool((own == code).any())]
        mine = (codes == code).nonzero().flatten().tolist()
        name = next(one for one in processes.objects(repr(ids[mine[0]]) if mine else None) if one is not None)
        raise ValueError(
            f"`groups` must have all rows of a group on one rank; got group {name} on ranks "
            f"{' and '.join(map(str, ranks))}, {len(twice)} such groups in all. Give each group to one rank."
        )


def code_of_group(group: object) -> int:
    """Return a number for the id of a group, the same in all processes and for ids that are equal.

    Args:
        group: an id; those of NumPy, and whole numbers of floats, are equal to Python's own.
    """
    plain = group.item() if isinstance(group, np.generic) else group
    plain = int(plain) if isinstance(plain, float) and plain.is_integer() else plain
    return int.from_bytes(hashlib.blake2b(repr(plain).encode(), digest_size=8).digest(), "little", signed=True)


def rows_to_check(rows: RowsOfFit, groups: object, processes: Processes | None) -> tuple[RowsOfFit, object, bool]:
    """Return what is checked of a rank's rows: the first row of another rank where it has none, and whether it has any.

    Args:
        rows: of this process.
        groups: an id of the group of each of them, or None.
        processes: of the fit; None for one.
    """
    if processes is None:
        return rows, groups, True
    own = rows.given.tensors
    has_any = not isinstance(own["y"], Tensor) or len(own["y"]) > 0
    first = None
    if has_any:
        one_group = None if groups is None else [next(iter(groups_of(groups).ids))]
        place = _first_seen(own["y"])
        tensors = {name: v[place].detach().cpu() if isinstance(v, Tensor) else None for name, v in own.items()}
        first = tensors, one_group, rows.given.layouts
    said = [one for one in processes.objects(first) if one is not None]
    if has_any or not said:
        return rows, groups, True
    pattern, one_group, layouts = said[0]
    like = own["x"] if isinstance(own["x"], Tensor) else torch.empty(0, dtype=torch.float32, device="cpu")
    tensors = {name: v.to(like.device) if isinstance(v, Tensor) else None for name, v in pattern.items()}
    return rows._replace(given=rows.given._replace(tensors=tensors, layouts=layouts)), one_group, False


def _first_seen(y: object) -> slice:
    """Return the first row of which all outputs were observed; the first of all if there is none."""
    if not isinstance(y, Tensor):
        return slice(0, 1)
    seen = (~y.reshape(len(y), -1).isnan().any(-1)).nonzero()
    first = int(seen[0]) if len(seen) else 0
    return slice(first, first + 1)


def rows_in_blocks(table: Table, processes: Processes | None, *, whole: bool = False) -> tuple[Ranks | None, Table]:
    """Return how rows lie on the ranks, None for one process, and the objects that a fit works on, in blocks.

    Args:
        table: what this process was given.
        processes: of the fit; None for one.
        whole: whether they shall not be in blocks, however many.
    """
    counted = table.observed()
    if processes is None:
        return None, counted if whole else in_pieces(counted)
    refuse_split_groups(table.groups, processes)
    ranks = Ranks(counted, processes, whole=whole)
    return ranks, ranks.table
