"""What a search of restarts is at a moment, as a few tensors and numbers that another process goes on from."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mixpyro.fitting import em
from mixpyro.fitting.em import Snapshot
from mixpyro.fitting.outcomes import Run
from mixpyro.fitting.pace import Pace
from mixpyro.fitting.restarts import Search
from mixpyro.fitting.rows_of_all import packed, unpacked
from mixpyro.fitting.runs import Runs, Trace
from mixpyro.mixture import MixtureState
from mixpyro.numerics import nested


def state_of(search: Search) -> dict[str, Any]:
    """Return all that another process needs to go on, as tensors and plain values.

    Args:
        search: at any moment.
    """
    has = em.has_objects(search.mixture)
    best = (
        None if search.best is None else [search.best[0], packed(search.table, search.best[1].state, has_objects=has)]
    )
    ended = [[list(run.trace), run.converged, list(run.degeneracies)] for run in search.ended]
    return {
        "ended": ended,
        "best": best,
        "begun": search.n_begun,
        "seen": [list(one) for one in sorted(search.seen)],
        "current": _state_of_group(search),
        "ends": search.ends.tensors(search.table, has_objects=has),
        "moved": search.moved,
    }


def _state_of_group(search: Search) -> dict[str, Any] | None:
    """Return the state of the current group; None while starts are tried, which another process draws again."""
    if search.current is None:
        return None
    group, has = search.current, em.has_objects(search.mixture)
    open_states = {number: nested.select(group.state, place) for place, number in enumerate(group.open)}
    states = open_states | {number: one.state for number, one in group.ended.items()}
    return {
        "traces": [[list(trace.bounds), trace.has_ended, dataclasses.asdict(trace.pace)] for trace in group.traces],
        # Those on the leading axis together: sums in other company round otherwise.
        "open": list(group.open),
        "states": [packed(search.table, states[number], has_objects=has) for number in range(len(group.traces))],
        "accelerator": group.accelerator.state(),
    }


def restore(search: Search, state: dict[str, Any]) -> None:
    """Let a search go on where the one was whose :func:`state_of` this is.

    Args:
        search: that has not begun.
        state: of a search with the same arguments.
    """
    has = em.has_objects(search.mixture)
    search.ended = [Run(tuple(trace), converged, tuple(words)) for trace, converged, words in state["ended"]]
    search.ends.restore(state["ends"], like=search.initial, table=search.table, has_objects=has)
    search.n_begun, search.seen = state["begun"], {tuple(one) for one in state["seen"]}
    search.moved = state.get("moved", False)
    if state["best"] is not None:
        number, tensors = state["best"]
        search.best = number, Snapshot(_restored(search, tensors))
    if state["current"] is not None:
        group = state["current"]
        traces = [Trace(list(bounds), has_ended, Pace(**pace)) for bounds, has_ended, pace in group["traces"]]
        snapshots = [Snapshot(_restored(search, tensors)) for tensors in group["states"]]
        search.current = Runs(search.scratch, search.table, search.options, traces, snapshots, open=group["open"])
        search.current.accelerator.restore(group["accelerator"])


def _restored(search: Search, tensors: Sequence[Tensor]) -> MixtureState:
    """Return a mixture's state from its tensors in order."""
    return unpacked(search.table, search.initial, tensors, has_objects=em.has_objects(search.mixture))
