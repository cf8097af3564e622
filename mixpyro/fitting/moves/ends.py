"""Moves at the end of a search: from each of its best optima to a better one."""

import math
from collections.abc import Callable

import torch

from mixpyro.fitting.em import Snapshot
from mixpyro.fitting.moves.points import allows_moves
from mixpyro.fitting.moves.reduce import reduced
from mixpyro.fitting.moves.trials import Trials
from mixpyro.fitting.optima import same
from mixpyro.fitting.outcomes import Run
from mixpyro.fitting.restarts import Search, rank
from mixpyro.fitting.runs import Trace
from mixpyro.numerics import nested

# Optima that moves are made from, the best first.
MOST_MOVED = 5


def move(search: Search, goes_on: Callable[[Trace], bool]) -> None:
    """Merge, delete and split components at the best optima of a search, if the gate says how many there are.

    The moves are the last iterations of a run. Runs at one optimum would make the same, which are made once.

    Args:
        search: whose runs have all ended.
        goes_on: asked after every E-step; False leaves the runs that have not moved as they were.
    """
    if search.moved or search.best is None or not math.isfinite(search.ended[search.best[0]].bound):
        return
    if search.mixture.gate.finds_components and allows_moves(search.mixture):
        trials = Trials(search.scratch, search.table, search.options, goes_on)
        for group in _groups(search, trials)[:MOST_MOVED]:
            run, end = reduced(trials, search.ended[group[0]], search.ends.states[group[0]], seed=search.seed)
            search.stopped = trials.stopped
            if trials.stopped:
                return
            _replace(search, group, run, end)
    search.moved = True


def _groups(search: Search, trials: Trials) -> list[list[int]]:
    """Return the runs at each optimum, the best optimum first; the first of each has a state."""
    assert search.best is not None
    best = search.best[0]
    if best not in search.ends.states:
        search.ends.states[best] = nested.apply(torch.clone, search.best_state)
    difference = trials.gain(search.ended[best].bound)
    groups: list[list[int]] = []
    for number in sorted(search.ends.states, key=lambda one: rank(search.ended[one]), reverse=True):
        run = search.ended[number]
        if run.converged and not any(same(run, search.ended[group[0]], difference) for group in groups):
            alike = [n for n, one in enumerate(search.ended) if n != number and same(one, run, difference)]
            groups.append([number, *alike])
    return groups


def _replace(search: Search, group: list[int], run: Run, end: Snapshot) -> None:
    """Put a run that has moved in the place of all runs at its optimum."""
    assert search.best is not None
    for number in group:
        search.ended[number] = run
    search.ends.states[group[0]] = nested.apply(torch.clone, end.state)
    if rank(run) >= rank(search.ended[search.best[0]]):
        search.best = group[0], end._replace(statistics=None)
