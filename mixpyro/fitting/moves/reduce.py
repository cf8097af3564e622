"""Merge and delete components while the bound rises: how many there are is found."""

from collections.abc import Sequence

from mixpyro.fitting.em import Snapshot
from mixpyro.fitting.moves.delete import deletable, deletions
from mixpyro.fitting.moves.merge import merges, pairs_by_overlap
from mixpyro.fitting.moves.points import Point
from mixpyro.fitting.moves.trials import Trials
from mixpyro.fitting.outcomes import Run
from mixpyro.mixture import MixtureState

# Merges that are tried for every component, and numbers in all candidates' parameters and block responsibilities.
PAIRS_A_COMPONENT, MOST_CANDIDATES = 3, 400


def reduced(trials: Trials, run: Run, state: MixtureState) -> tuple[Run, Snapshot]:
    """Return the run after merges and deletions, each of which has raised the bound, and where it has ended.

    A move is taken as soon as the bound is higher after a few iterations; the run then converges, and where no quick
    move is left those that look best are iterated to their own ends. A component that has lost its rows stays in the
    mixture, without any. The run is as it was if no move is better, or Ctrl-C has come.

    Args:
        trials: make the runs.
        run: what has been reached.
        state: where it has ended.

    References:
        Hughes, Sudderth (2013), Memoized online variational inference for Dirichlet process mixture models, section 3.
    """
    trace, is_at_end = list(run.trace), run.converged
    end = Snapshot(state)
    point = trials.point(state)
    while not trials.stopped:
        tried = trials.screened(_candidates(trials, point))
        if tried and not _is_better(trials, tried[0][0].bounds, point) and not is_at_end:
            run, end = trials.converged(trace, point.state)
            trace, is_at_end = list(run.trace), True
            point = trials.point(end.state)
            continue
        if not tried or not _is_better(trials, tried[0][0].bounds, point):
            tried = trials.finished(tried, point.bound)
            if not tried or not _is_better(trials, tried[0][0].bounds, point):
                break
        best, after = tried[0]
        trace += [bound for bound in best.bounds if bound > trace[-1]]
        point, is_at_end = trials.point(after.state), False
    if trials.stopped or is_at_end:
        return run, end
    return trials.converged(trace, point.state)


def _candidates(trials: Trials, point: Point) -> list[Snapshot]:
    """Return the starts of runs after merges and deletions."""
    mixture, table, k = trials.mixture, trials.table, point.n_components
    pairs = pairs_by_overlap(mixture, table, point, min(PAIRS_A_COMPONENT * k, MOST_CANDIDATES))
    components = deletable(table, point, MOST_CANDIDATES)
    found = merges(mixture, table, point, pairs) if pairs else []
    return found + (deletions(mixture, table, point, components) if components else [])


def _is_better(trials: Trials, bounds: Sequence[float], point: Point) -> bool:
    """Return whether a trial has a higher bound than the point, by more than two runs to one optimum differ."""
    return bool(bounds) and bounds[-1] > point.bound + trials.gain(point.bound)
