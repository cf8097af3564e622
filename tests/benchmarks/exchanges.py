"""Merge two components and split a third at once: as many components as before, elsewhere."""

from torch import Generator

from mixpyro.fitting.em import Snapshot
from mixpyro.fitting.moves.merge import pairs_by_overlap
from mixpyro.fitting.moves.points import Point, can_be_emptied
from mixpyro.fitting.moves.split import DRAWS, FREE, Split, splits
from mixpyro.fitting.moves.trials import Trials
from mixpyro.fitting.outcomes import Run
from mixpyro.fitting.table import Table
from mixpyro.mixture import MixtureOfExperts

# Pairs to merge, exchanges in all, and rounds of exchanges, each from where the one before has ended.
MOST_PAIRS, MOST_EXCHANGES, MOST_ROUNDS = 6, 24, 5


def exchanged(trials: Trials, run: Run, end: Snapshot, seed: int) -> tuple[Run, Snapshot]:
    """Return the run after exchanges, each of which has raised the bound, and where it has ended.

    The run is as it was if none is better, or Ctrl-C has come.

    Args:
        trials: make the runs.
        run: what has been reached.
        end: where it has ended.
        seed: of the rows that a split begins with.

    References:
        Ueda, Nakano, Ghahramani, Hinton (2000), SMEM algorithm for mixture models, Neural Computation 12.
    """
    for number in range(MOST_ROUNDS):
        point = trials.point(end.state)
        exchanges = _exchanges(trials.mixture, trials.table, point)
        if trials.stopped or not exchanges:
            break
        generator = Generator("cpu").manual_seed((seed << 8) + number)
        tried = trials.screened(splits(trials.mixture, trials.table, point, exchanges, generator))
        tried = trials.finished(tried, point.bound)
        if trials.stopped or not tried or tried[0][0].bounds[-1] <= point.bound + trials.gain(point.bound):
            break
        best, after = tried[0]
        trace = [*run.trace, *(bound for bound in best.bounds if bound > run.bound)]
        run, end = trials.converged(trace, after.state)
    return run, end


def _exchanges(mixture: MixtureOfExperts, table: Table, point: Point) -> list[Split]:
    """Return the exchanges to try: of the pairs that share most rows, one takes all and the other halves a third's."""
    free = can_be_emptied(point, table)
    empty = [k for k, count in enumerate(point.counts(table).tolist()) if count < FREE and free[k]]
    whole = [k for k in range(point.n_components) if k not in empty]
    # A component without rows is free already: nothing needs to be merged.
    found = [Split(split, into, split) for into in empty[:1] for split in whole for _ in range(DRAWS)]
    found += [
        Split(split, loses, keeps)
        for keeps, loses in pairs_by_overlap(mixture, table, point, MOST_PAIRS)
        for split in whole
        if split not in (keeps, loses)
        for _ in range(DRAWS)
    ]
    return found[:MOST_EXCHANGES]
