"""The rows of a fit on many processes: which rank holds which objects, and rows that all of them see."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mixpyro.distributed.blocks import Blocks, Move, block_size, held
from mixpyro.distributed.processes import Processes, processes_of
from mixpyro.experts.base import Experts
from mixpyro.fitting.outcomes import Optimum
from mixpyro.fitting.pieces import in_pieces
from mixpyro.fitting.rows_of_fit import RowsOfFit
from mixpyro.fitting.table import Table
from mixpyro.gates.per_object import ObjectGate
from mixpyro.groups import Groups
from mixpyro.labels import all_known
from mixpyro.mixture import MixtureOfExperts, MixtureState
from mixpyro.numerics import nested
from mixpyro.part import Part
from mixpyro.pyro_internals.parameter_store import has_parameters
from mixpyro.numerics.segments import Segments

# Numbers in the rows of all ranks together that starts may be drawn on: half a gigabyte in float32.
MOST_NUMBERS = 2**27


class Ranks:
    """How the objects of a fit lie on the ranks: as they were given, and in whole blocks.

    Args:
        table: what this rank was given, without columns and without objects of weight zero; perhaps without any.
        processes: of the fit.
        leaves_out: whether the table is without objects of weight zero.

    Attributes:
        leaves_out_any: whether that of any rank is.
        table: what this rank holds in the fit, in blocks.
    """

    def __init__(self, table: Table, processes: Processes, *, leaves_out: bool = False) -> None:
        self.processes = processes
        self.leaves_out_any = processes.any(leaves_out)
        table = alike(table, processes)
        self.counts = processes.numbers(table.size)
        if not sum(self.counts):
            raise ValueError("`x` must have a row on some rank; got none on any.")
        size = block_size(sum(self.counts), table.x.device)
        firsts, kept, self.moves = held(self.counts, size)
        self.start = sum(self.counts[: processes.rank])
        own = self._moved(table, firsts[processes.rank], kept[processes.rank])
        said = processes.objects((len(table.x), first_of(table)))
        n_rows, total = sum(one[0] for one in said), sum(self.counts)
        self.blocks = Blocks(size, total, firsts[processes.rank], kept[processes.rank], processes)
        if not own.size:
            pattern = next(one[1] for one in said if one[1] is not None)
            own = pattern._replace(**{n: None if v is None else v.to(table.x.device) for n, v in _tensors(pattern)})
        self.table = in_pieces(own._replace(groups=None), self.blocks, n_rows=n_rows)

    def given(self, values: Tensor) -> Tensor:
        """Return values of the objects that this rank was given, from those that hold them [n, …].

        Args:
            values: of the objects that this rank holds [n, …].
        """
        values = values.contiguous()
        first, count = self.start, self.counts[self.processes.rank]
        back = [Move(move.target, move.source, move.first, move.n_objects) for move in self.moves]
        if not self.blocks.n_held:
            values = values[:0]
        return self._exchanged(values, self.blocks.first, back, first, count)

    def optimum(self, one: Optimum, mixture: MixtureOfExperts) -> Optimum:
        """Return an optimum with what is said of the objects that this rank was given.

        Args:
            one: with what is said of those that it holds.
            mixture: any copy of what was fitted, which is changed.
        """
        state, r = one.state, one.responsibilities
        if r is not None:
            r = self.given(r)
        if state is not None and isinstance(mixture.gate, ObjectGate):
            state = _with_objects(state, self.given(state.gate.posterior[-1]))
        return dataclasses.replace(one, state=state, responsibilities=r)

    def _moved(self, table: Table, first: int, count: int) -> Table:
        """Return the objects that this rank shall hold."""
        if not self.moves:
            return table
        sizes = table.segments.sizes if table.segments is not None else torch.ones(table.size, dtype=torch.long)
        moved = self._exchanged(sizes.cpu(), self.start, self.moves, first, count)
        shared = table.gate_x.data_ptr() == table.x.data_ptr() and table.segments is None

        def of_objects(values: Tensor | None) -> Tensor | None:
            return None if values is None else self._exchanged(values, self.start, self.moves, first, count)

        def of_rows(values: Tensor) -> Tensor:
            if table.segments is None:
                return self._exchanged(values, self.start, self.moves, first, count)
            ends = torch.cat([torch.zeros(1, dtype=torch.long), sizes.cpu().cumsum(0)])
            new_ends = torch.cat([torch.zeros(1, dtype=torch.long), moved.cumsum(0)])
            return self._exchanged(values, self.start, self.moves, first, count, (ends, new_ends))

        x, y = of_rows(table.x), of_rows(table.y)
        gate_x = x if shared else of_objects(table.gate_x)
        assert gate_x is not None
        segments = None if table.segments is None else Segments(moved.to(table.x.device))
        own = {"weights": of_objects(table.weights), "labels": of_objects(table.labels)}
        return table._replace(
            x=x, y=y, gate_x=gate_x, segments=segments, start=of_objects(table.start), groups=None, **own
        )

    def _exchanged(
        self,
        values: Tensor,
        start: int,
        moves: Sequence[Move],
        first: int,
        count: int,
        ends: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Return values of objects ``first`` to ``first + count``, given those from ``start`` on, with what others send.

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
    return part._replace(**{name: None if value is None else value.cpu() for name, value in _tensors(part)})


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


def seen_by_all(table: Table, objects: Tensor | None = None) -> Table:
    """Return objects of all processes as one table without blocks, the same on every process.

    Args:
        table: in blocks, without columns or with.
        objects: numbers of the objects among those of all processes [B], some perhaps more than once; None for all.

    Raises:
        ValueError: if these are too many to be seen by each process.
    """
    blocks = table.blocks_of_all
    assert blocks is not None
    bare = table._replace(blocks_of_all=None, pieces=(), columns=(), total=None, groups=None)
    if blocks.processes is None:
        return bare if objects is None else bare.block(objects)
    n_numbers = table.n_rows_of_all * (table.x.shape[1] + table.y.shape[1])
    if objects is None and n_numbers > MOST_NUMBERS:
        raise ValueError(
            f"`x` and `y` must have at most {MOST_NUMBERS} numbers on all ranks together where starts are drawn on all "
            f"rows; got {n_numbers}. Let `n_candidates` be at least 2, and the gate one without posteriors of objects."
        )
    if objects is None:
        own = torch.arange(blocks.n_held, device=table.x.device)
        order = None
    else:
        mine = (objects >= blocks.first) & (objects < blocks.first + blocks.n_held)
        own, order = objects[mine] - blocks.first, mine.nonzero().squeeze(-1)
    part = bare.block(own)
    packed = [part.segments.sizes.cpu() if part.segments is not None else None]
    packed += [None if value is None else value.cpu() for _, value in _tensors(part)]
    said = blocks.processes.objects((packed, None if order is None else order.cpu()))
    whole = _joined(part, [one[0] for one in said], table.x.device)
    if objects is None:
        return whole
    place = torch.cat([one[1] for one in said])
    return whole.block(place.argsort().to(table.x.device))


def of_own(table: Table, values: Tensor) -> Tensor:
    """Return the values of the objects that this process holds, from those of all [N, …].

    Args:
        table: in blocks, or not.
        values: of the objects of all processes.
    """
    blocks = table.blocks_of_all
    if blocks is None:
        return values
    return values[blocks.first : blocks.first + blocks.n_held] if blocks.holds_any else values[:1]


def of_all(table: Table, values: Tensor) -> Tensor:
    """Return the values of the objects of all processes [N, …], from those that this process holds.

    Args:
        table: in blocks, or not.
        values: [n, …].
    """
    blocks = table.blocks_of_all
    if blocks is None or blocks.processes is None:
        return values
    own = values if blocks.holds_any else values[:0]
    found = blocks.processes.gather(own.contiguous(), kind="values of objects")
    return torch.cat([one.view(-1, *values.shape[1:]) for one in found])


def packed(table: Table, state: MixtureState, *, has_objects: bool) -> list[Tensor]:
    """Return the tensors of a state, those of objects with the objects of all processes, for a file.

    Args:
        table: in blocks, or not.
        state: of a mixture, without an axis of runs.
        has_objects: whether its gate keeps a posterior of each object.
    """
    if table.blocks_of_all is None or not has_objects:
        return nested.tensors(state)
    return nested.tensors(_with_objects(state, of_all(table, state.gate.posterior[-1])))


def unpacked(table: Table, like: MixtureState, tensors: Sequence[Tensor], *, has_objects: bool) -> MixtureState:
    """Return the state whose tensors :func:`packed` has returned, with the objects of this process.

    Args:
        table: in blocks, or not.
        like: a state of the mixture.
        tensors: of the state.
        has_objects: whether its gate keeps a posterior of each object.
    """
    state: MixtureState = nested.with_tensors(like, tensors)
    if table.blocks_of_all is None or not has_objects:
        return state
    return _with_objects(state, of_own(table, state.gate.posterior[-1]).clone())


def _with_objects(state: MixtureState, values: Tensor) -> MixtureState:
    """Return a state with other posteriors of objects."""
    posterior = state.gate.posterior._replace(**{state.gate.posterior._fields[-1]: values})
    return state._replace(gate=state.gate._replace(posterior=posterior))


def smallest_of_all(table: Table, values: Tensor, n_wanted: int) -> Tensor:
    """Return the numbers of the objects of all processes with the smallest values, these in ascending order.

    Args:
        table: in blocks, or not.
        values: of the objects that this process holds [n], on the CPU.
        n_wanted: how many; all where there are fewer.
    """
    blocks = table.blocks_of_all
    if blocks is None or blocks.processes is None:
        return values.topk(min(n_wanted, len(values)), largest=False).indices
    values = values if blocks.holds_any else values[:0]
    best = values.topk(min(n_wanted, len(values)), largest=False)
    found = blocks.processes.gather(best.values, kind="smallest values")
    numbers = torch.cat(blocks.processes.gather(best.indices + blocks.first, kind="their objects"))
    return numbers[torch.cat(found).topk(min(n_wanted, len(numbers)), largest=False).indices]


def of_this_process(table: Table, objects: Tensor) -> Tensor:
    """Return which objects that this process holds are among some of those of all.

    Args:
        table: in blocks, or not.
        objects: their numbers among those of all processes.
    """
    blocks = table.blocks_of_all
    if blocks is None:
        return objects
    return objects[(objects >= blocks.first) & (objects < blocks.first + blocks.n_held)] - blocks.first


def known_objects(table: Table) -> Tensor:
    """Return the numbers of the objects of all processes whose component is known.

    Args:
        table: with labels.
    """
    assert table.labels is not None
    own = (table.labels >= 0).nonzero().squeeze(-1)
    blocks = table.blocks_of_all
    if blocks is None or blocks.processes is None:
        return own
    mine = (own + blocks.first) if blocks.holds_any else own[:0]
    return torch.cat(blocks.processes.gather(mine, kind="known objects"))


def are_all_known(table: Table) -> bool:
    """Return whether the component of every object of all processes is known.

    Args:
        table: any.
    """
    blocks = table.blocks_of_all
    own = all_known(table.labels)
    if blocks is None or blocks.processes is None:
        return own
    return not blocks.processes.any(not own)


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
    codes = torch.tensor([_code(one) for one in ids], dtype=torch.long)
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


def said_by_first(processes: Processes | None, function: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Return what a function returns on rank 0; called there alone.

    Args:
        processes: of the fit; None for one.
        function: without arguments.
    """
    if processes is None:
        return function()
    return processes.shared(function() if processes.rank == 0 else None)


def _tensors(table: Table) -> list[tuple[str, Tensor | None]]:
    """Return the tensors of a table by their names."""
    return [(name, getattr(table, name)) for name in ("x", "y", "gate_x", "weights", "labels", "start")]


def _joined(like: Table, packed: Sequence[Sequence[Tensor | None]], device: torch.device) -> Table:
    """Return one table of the objects of several."""

    def whole(number: int) -> Tensor | None:
        found = [one[number] for one in packed if one[number] is not None]
        return torch.cat(found).to(device) if found else None

    sizes = whole(0)
    names = [name for name, _ in _tensors(like)]
    own: dict[str, Any] = {name: whole(1 + number) for number, name in enumerate(names)}
    return like._replace(segments=None if sizes is None else Segments(sizes), **own)


def _code(group: object) -> int:
    """Return a number for the id of a group that is the same in all processes."""
    return int.from_bytes(hashlib.blake2b(repr(group).encode(), digest_size=8).digest(), "little", signed=True)


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
        one_group = None if groups is None else [next(iter(Groups.of(groups).ids))]
        place = _first_seen(own["y"])
        first = (
            {name: v[place].detach().cpu() if isinstance(v, Tensor) else None for name, v in own.items()},
            one_group,
        )
    said = [one for one in processes.objects(first) if one is not None]
    if has_any or not said:
        return rows, groups, True
    pattern, one_group = said[0]
    like = own["x"] if isinstance(own["x"], Tensor) else torch.empty(0)
    tensors = {name: v.to(like.device) if isinstance(v, Tensor) else None for name, v in pattern.items()}
    return rows._replace(given=rows.given._replace(tensors=tensors)), one_group, False


def _first_seen(y: object) -> slice:
    """Return the first row of which all outputs were observed; the first of all if there is none."""
    if not isinstance(y, Tensor):
        return slice(0, 1)
    seen = (~y.reshape(len(y), -1).isnan().any(-1)).nonzero()
    first = int(seen[0]) if len(seen) else 0
    return slice(first, first + 1)


def rows_in_blocks(table: Table, processes: Processes | None) -> tuple[Ranks | None, Table]:
    """Return how rows lie on the ranks, None for one process, and the objects that a fit works on, in blocks.

    Args:
        table: what this process was given.
        processes: of the fit; None for one.
    """
    counted = table.observed()
    if processes is None:
        return None, in_pieces(counted)
    refuse_split_groups(table.groups, processes)
    ranks = Ranks(counted, processes, leaves_out=counted.size < table.size)
    return ranks, ranks.table


def names_of(starts: object) -> object:
    """Return the names of starts, as arguments that ranks compare.

    Args:
        starts: as for :func:`mixpyro.fit`.
    """
    if not isinstance(starts, Sequence):
        return repr(starts)
    return [getattr(start, "__qualname__", type(start).__qualname__) for start in starts]


def check_alike(processes: Processes, mixture: MixtureOfExperts, given: dict[str, Any]) -> None:
    """Raise unless all ranks fit the same mixture with the same arguments.

    Args:
        processes: of the fit.
        mixture: what shall be fitted.
        given: arguments by their names.

    Raises:
        ValueError: on all ranks, with the arguments that differ.
    """
    refuse_undistributed(mixture)
    said = {name: repr(value) for name, value in given.items()}
    said["mixture"] = " ".join(repr(mixture).split())
    digest = hashlib.sha256()
    for name, value in mixture.state_dict().items():
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    said["parameters of mixture"] = digest.hexdigest()[:16]
    processes.same(said)


def refuse_undistributed(mixture: MixtureOfExperts) -> None:
    """Raise if a part of a mixture must see all rows at once to be estimated.

    Args:
        mixture: what shall be fitted on many processes.

    Raises:
        ValueError: with the part and what to do.
    """
    if isinstance(mixture.gate, ObjectGate) and mixture.experts.takes_steps:
        raise ValueError(
            f"`experts` must have posteriors beside a {type(mixture.gate).__name__} on many processes; got "
            f"{type(mixture.experts).__name__}, whose first step reads every row. Use a DirichletGate."
        )
    for part in (one for one in mixture.modules() if isinstance(one, Part)):
        kind = type(part).__name__
        if isinstance(part, ObjectGate) and has_parameters(part):
            raise ValueError(
                f"`gate` must not learn the mean of a {kind} on many processes; got `learn_mean=True`. Use a "
                "MarginalObjectDirichletGate, whose mean is learnt in closed form."
            )
        if isinstance(part, Experts) and part.reads_groups:
            raise ValueError(f"`experts` must not be {kind} on many processes: their updates read whole groups. Fit on one.")
        if part.finds_maximum and part.reads_rows and not getattr(part, "members", ()):
            raise ValueError(
                f"`{'experts' if isinstance(part, Experts) else 'gate'}` must be estimated from sums over the rows on "
                f"many processes; got a {kind} with {part.n_parameters} parameters, whose Newton steps read every row."
            )


def refuse_gradients(mixture: MixtureOfExperts) -> None:
    """Raise if a part of a mixture has parameters that a stream estimates from the rows of a batch.

    Args:
        mixture: what shall be fitted to a stream on many processes.

    Raises:
        ValueError: with the part and what to do.
    """
    for part in (mixture.gate, mixture.experts):
        if isinstance(part, ObjectGate) or has_parameters(part):
            raise ValueError(
                f"`mixture` must have posteriors alone for a stream on many processes; got {type(part).__name__}, which "
                "reads every row. Use `fit`, or a stream on one process."
            )


def refuse_processes(process_group: object, name: str) -> None:
    """Raise if there are many processes, for what is done on one.

    Args:
        process_group: of torch.distributed; None for the default group.
        name: of the function.

    Raises:
        ValueError: if there are.
    """
    if processes_of(process_group) is not None:
        raise ValueError(
            f"`{name}` must be called in one process; got an initialised process group of several. Use `fit`, each rank "
            "with its rows, or a StreamingFit of batches that lie on all ranks."
        )
