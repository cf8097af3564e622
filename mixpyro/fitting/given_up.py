"""Runs that a search has abandoned as lost, finished where the best optimum looks spurious."""

import math
from collections.abc import Callable

import torch

from mixpyro.fitting.em import Snapshot
from mixpyro.fitting.noises import noises_differ
from mixpyro.fitting.outcomes import Run
from mixpyro.fitting.restarts import Search, rank
from mixpyro.fitting.runs import Runs, Trace
from mixpyro.numerics import nested


def finish_if_suspicious(search: Search, goes_on: Callable[[Trace], bool]) -> None:
    """Iterate the runs that were given up until they converge, if the noises of the best run differ by much.

    A likelihood has maxima of its own on a few rows that happen to lie close together, which beat the one that an
    analyst looks for. Runs towards the latter have then been given up as worse.

    Args:
        search: whose runs have all ended.
        goes_on: asked after every E-step; False leaves the runs as they were.
    """
    if search.best is None or not math.isfinite(search.ended[search.best[0]].bound):
        return
    search.scratch.hold(search.best_state)
    unfinished = [number for number in search.ends.states if _was_given_up(search, number)]
    if unfinished and noises_differ(search.scratch.experts):
        _finish(search, unfinished, goes_on)


def _was_given_up(search: Search, number: int) -> bool:
    """Return whether a run ended before it converged, with iterations left."""
    run = search.ended[number]
    return not run.converged and len(run.trace) < search.options.max_iterations


def _finish(search: Search, numbers: list[int], goes_on: Callable[[Trace], bool]) -> None:
    """Iterate runs until they have converged, and put their outcomes in the place of those before."""

    def asked(trace: Trace) -> bool:
        search.stopped = search.stopped or not goes_on(trace)
        return not search.stopped

    for together in [[number] for number in numbers] if search.runs_one_by_one else [numbers]:
        traces = [Trace(list(search.ended[number].trace)) for number in together]
        snapshots = [Snapshot(search.ends.states[number]) for number in together]
        group = Runs(search.scratch, search.table, search.options, traces, snapshots)
        group.iterate(search.options.max_iterations, asked, lambda _: False)
        group.close()
        if not search.stopped:
            for place, number in enumerate(together):
                _replace(search, number, group.outcome(place), group.ended[place])


def _replace(search: Search, number: int, run: Run, end: Snapshot) -> None:
    """Put a run in the place of one that was given up."""
    assert search.best is not None
    search.ended[number] = run
    search.ends.states[number] = nested.apply(torch.clone, end.state)
    if rank(run) > rank(search.ended[search.best[0]]):
        search.best = number, end._replace(statistics=None)
