"""Rows of a fit that all of its processes see, and numbers of objects among those of all of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mixpyro.distributed import rows
from mixpyro.distributed.processes import Processes
from mixpyro.fitting.table import Table
from mixpyro.labels import all_known
from mixpyro.mixture import MixtureState
from mixpyro.numerics import nested
from mixpyro.numerics.segments import Segments

# Numbers in the rows of all ranks together that starts may be drawn on: half a gigabyte in float32.
MOST_NUMBERS = 2**27


def seen_by_all(table: Table, objects: Tensor | None = None) -> Table:
    """Return objects of all processes as one table without blocks, the same on every process.

    Args:
        table: in blocks or not, without columns or with.
        objects: numbers of the objects among those of all processes [B], some perhaps more than once; None for all.

    Raises:
        ValueError: if these are too many to be seen by each process.
    """
    blocks = table.blocks_of_all
    bare = table._replace(blocks_of_all=None, pieces=(), columns=(), total=None, groups=None)
    if blocks is None or blocks.processes is None:
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
    said = blocks.processes.objects((_packed(part), None if order is None else order.cpu()))
    whole = _joined(part, [one[0] for one in said], table.x.device)
    if objects is None:
        return whole
    place = torch.cat([one[1] for one in said])
    return whole.block(place.argsort().to(table.x.device))


@contextmanager
def counted_rows(table: Table) -> Iterator[None]:
    """Let functions of :mod:`mixpyro.distributed.rows` take the rows of a table for a part of those of all processes.

    Args:
        table: in blocks, or not.
    """
    blocks = table.blocks_of_all
    processes, counted = (None, True) if blocks is None else (blocks.processes, blocks.holds_any)
    with rows.on(processes, counted=counted):
        yield


def everywhere(table: Table, processes: Processes) -> Table:
    """Return the objects of all processes as one table without blocks, the same on every process.

    Args:
        table: of this process, perhaps without any object.
        processes: that have some.
    """
    bare = table._replace(columns=(), groups=None)
    found = _joined(bare, processes.objects(_packed(bare)), table.x.device)
    reads_x = table.segments is None and table.gate_x.shape == table.x.shape and torch.equal(found.gate_x, found.x)
    return found._replace(gate_x=found.x) if reads_x else found


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
    return nested.tensors(with_objects(state, of_all(table, state.gate.posterior[-1])))


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
    return with_objects(state, of_own(table, state.gate.posterior[-1]).clone())


def with_objects(state: MixtureState, values: Tensor) -> MixtureState:
    """Return a state with other posteriors of objects.

    Args:
        state: without an axis of runs.
        values: the last field of the gate's posterior.
    """
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


def number_of_all(table: Table, number: int) -> int:
    """Return the sum of a number of objects over all processes.

    Args:
        table: in blocks, or not.
        number: how many of the objects that this process holds.
    """
    blocks = table.blocks_of_all
    if blocks is None or blocks.processes is None:
        return number
    return sum(blocks.processes.numbers(number if blocks.holds_any else 0))


def picked_of_all(table: Table, values: Tensor, places: Tensor) -> Tensor:
    """Return some values of those of all processes, which lie one process after another.

    Args:
        table: in blocks, or not.
        values: of this process, of some of its objects perhaps [n].
        places: of the values to return, among those of all processes [B].
    """
    with counted_rows(table):
        return rows.sampled(values, places)


def numbers_in_all(table: Table, objects: Tensor) -> Tensor:
    """Return the numbers of objects among those of all processes.

    Args:
        table: in blocks, or not.
        objects: their numbers among those of this process [n].
    """
    blocks = table.blocks_of_all
    return objects if blocks is None else objects + blocks.first


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


def said_by_first(processes: Processes | None, function: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Return what a function returns on rank 0; called there alone.

    Args:
        processes: of the fit; None for one.
        function: without arguments.
    """
    if processes is None:
        return function()
    return processes.shared(function() if processes.rank == 0 else None)


def tensors_of(table: Table) -> list[tuple[str, Tensor | None]]:
    """Return the tensors of a table by their names.

    Args:
        table: any.
    """
    return [(name, getattr(table, name)) for name in ("x", "y", "gate_x", "weights", "labels", "start")]


def _packed(table: Table) -> list[Tensor | None]:
    """Return what :func:`_joined` reads of a table, on the CPU."""
    tensors = [None if table.segments is None else table.segments.sizes, *(value for _, value in tensors_of(table))]
    return [None if value is None else value.detach().cpu() for value in tensors]


def _joined(like: Table, packed: Sequence[Sequence[Tensor | None]], device: torch.device) -> Table:
    """Return one table of the objects of several."""

    def whole(number: int) -> Tensor | None:
        found = [one[number] for one in packed]
        known = [one for one in found if one is not None]
        return torch.cat(known).to(device) if known else None

    sizes = whole(0)
    names = [name for name, _ in tensors_of(like)]
    own: dict[str, Any] = {name: whole(1 + number) for number, name in enumerate(names)}
    return like._replace(segments=None if sizes is None else Segments(sizes), **own)
