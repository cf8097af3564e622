"""Merge, delete and split components while the bound rises: how many there are is found."""

from collections.abc import Iterator, Sequence

from torch import Generator

from mixpyro.fitting.em import Snapshot
from mixpyro.fitting.moves.delete import deletable, deletions
from mixpyro.fitting.moves.merge import merges, pairs_by_overlap
from mixpyro.fitting.moves.points import MOST_NUMBERS, Point
from mixpyro.fitting.moves.split import splits, splittable
from mixpyro.fitting.moves.trials import Trial, Trials
from mixpyro.fitting.outcomes import Run
from mixpyro.mixture import MixtureState
from mixpyro.numerics.blocks import slices

# Merges that are tried for every component, and numbers in all candidates' parameters and block responsibilities.
PAIRS_A_COMPONENT, MOST_CANDIDATES = 3, 400
# Splits that are tried where no merge or deletion is better.
MOST_SPLITS = 48


def reduced(trials: Trials, run: Run, state: MixtureState, *, seed: int = 0) -> tuple[Run, Snapshot]:
    """Return the run after moves, each of which has raised the bound, and where it has ended.

    A merge or deletion is taken as soon as the bound is higher after a few iterations; the run then converges, and
    where no quick move is left those that look best are iterated to their own ends. Where none of them is better, the
    best splits are iterated to theirs. A component that has lost its rows stays in the mixture, without any, and a
    split takes one of these. The run is as it was if no move is better, or Ctrl-C has come.

    Args:
        trials: make the runs.
        run: what has been reached.
        state: where it has ended.
        seed: of the rows that a split begins with, at least 0.

    References:
        Hughes, Sudderth (2013), Memoized online variational inference for Dirichlet process mixture models, section 3.
    """
    trace, is_at_end = list(run.trace), run.converged
    end, point = Snapshot(state), trials.point(state)
    generator = Generator("cpu").manual_seed(seed)
    while not trials.stopped:
        tried = trials.best_of(_fewer(trials, point))
        if not _is_better(trials, tried, point) and not is_at_end:
            run, end = trials.converged(trace, point.state)
            trace, is_at_end = list(run.trace), True
            point = trials.point(end.state)
            continue
        if not _is_better(trials, tried, point):
            tried = trials.finished(tried, point.bound)
        if not _is_better(trials, tried, point):
            tried = trials.finished(trials.best_of(_more(trials, point, generator)), point.bound)
        if not _is_better(trials, tried, point):
            break
        best, after = tried[0]
        trace += [bound for bound in best.bounds if bound > trace[-1]]
        point, is_at_end = trials.point(after.state), False
    if trials.stopped or is_at_end:
        return run, end
    return trials.converged(trace, point.state)


def _fewer(trials: Trials, point: Point) -> Iterator[list[Snapshot]]:
    """Yield the starts of runs after merges and deletions, in groups that fit into memory."""
    mixture, table, k = trials.mixture, trials.table, point.n_components
    pairs = pairs_by_overlap(mixture, table, point, min(PAIRS_A_COMPONENT * k, MOST_CANDIDATES))
    components = deletable(table, point, MOST_CANDIDATES)
    for some in slices(len(pairs) + len(components), trials.most_at_once(point.state)):
        merged = pairs[some]
        deleted = components[max(0, some.start - len(pairs)) : max(0, some.stop - len(pairs))]
        found = merges(mixture, table, point, merged) if merged else []
        yield found + (deletions(mixture, table, point, deleted) if deleted else [])


def _more(trials: Trials, point: Point, generator: Generator) -> Iterator[list[Snapshot]]:
    """Yield the starts of runs after splits, in groups that fit into memory; none once Ctrl-C has come."""
    tried = [] if trials.stopped else splittable(trials.mixture, trials.table, point, MOST_SPLITS)
    # A split has responsibilities of all rows.
    size = max(1, min(trials.most_at_once(point.state), MOST_NUMBERS // point.responsibilities.numel()))
    for some in slices(len(tried), size):
        yield splits(trials.mixture, trials.table, point, tried[some], generator)


def _is_better(trials: Trials, tried: Sequence[Trial], point: Point) -> bool:
    """Return whether the best trial has a higher bound than the point, by more than two runs to one optimum differ."""
    bounds = tried[0][0].bounds if tried else []
    return bool(bounds) and bounds[-1] > point.bound + trials.gain(point.bound)
