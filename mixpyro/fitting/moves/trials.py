"""Runs from what moves have led to, and the best of them."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

import torch

from mixpyro.fitting.em import Snapshot, numbers_of_run, reads_rows
from mixpyro.fitting.moves.points import MOST_NUMBERS, Point, point_at
from mixpyro.fitting.outcomes import Run
from mixpyro.fitting.provenance import difference_at_one_optimum
from mixpyro.fitting.runs import Options, Runs, Trace
from mixpyro.fitting.stopping import is_hopeless
from mixpyro.fitting.table import Table
from mixpyro.mixture import MixtureOfExperts, MixtureState
from mixpyro.numerics import nested
from mixpyro.numerics.blocks import runs_at_once

# Iterations that all candidates of a move make, and how many of the best go on until they converge or are given up.
SCREENING, MOST_FINISHED = 3, 8
# A run from a candidate: the bounds of its iterations, and where it is.
Trial = tuple[Trace, Snapshot]


class Trials:
    """Runs from candidates, iterated together.

    Args:
        mixture: whose formulas are used; its state is overwritten.
        table: with columns.
        options: of the runs.
        goes_on: asked after every E-step; False stops all.
    """

    def __init__(
        self, mixture: MixtureOfExperts, table: Table, options: Options, goes_on: Callable[[Trace], bool]
    ) -> None:
        self.mixture, self.table, self.stopped = mixture, table, False
        self.options = dataclasses.replace(options, n_annealing=0)
        self._goes_on = goes_on

    def point(self, state: MixtureState) -> Point:
        """Return a state with what an E-step there finds.

        Args:
            state: without an axis of runs.
        """
        return point_at(self.mixture, self.table, state)

    def screened(self, candidates: Sequence[Snapshot]) -> list[Trial]:
        """Make a few iterations from every candidate; return the runs, the highest bound first.

        Args:
            candidates: starts of runs.
        """
        trials = [(Trace(), one) for one in candidates]
        return self._iterated(trials, SCREENING, lambda _: False)

    def best_of(self, groups: Iterable[Sequence[Snapshot]]) -> list[Trial]:
        """Screen candidates, a group at a time; return the ``MOST_FINISHED`` best, the highest bound first.

        Args:
            groups: starts of runs.
        """
        best = list[Trial]()
        for candidates in groups:
            if self.stopped:
                break
            # Not views of all of a group's states, which they would keep.
            found = [
                (trace, nested.apply(torch.clone, end)) for trace, end in self.screened(candidates)[:MOST_FINISHED]
            ]
            best = sorted([*best, *found], key=_height, reverse=True)[:MOST_FINISHED]
        return best

    def finished(self, trials: Sequence[Trial], bound: float) -> list[Trial]:
        """Go on with the best trials until each has converged or will not reach a bound; the highest bound first.

        Args:
            trials: the best first.
            bound: to be beaten, in nats.
        """
        best = [trial for trial in trials if math.isfinite(trial[0].bounds[-1])][:MOST_FINISHED]
        return self._iterated(best, self.options.max_iterations, lambda trace: is_hopeless(trace.bounds, bound))

    def converged(self, trace: Sequence[float], state: MixtureState) -> tuple[Run, Snapshot]:
        """Iterate a run until it converges; return its outcome and where it ends.

        Args:
            trace: its bounds so far.
            state: where it is, without an axis of runs.
        """
        group = Runs(self.mixture, self.table, self.options, [Trace(list(trace))], [Snapshot(state)])
        group.iterate(len(trace) + self.options.max_iterations, self._asked, lambda _: False)
        group.close()
        return group.outcome(0), group.ended[0]

    def gain(self, bound: float) -> float:
        """Return the nats by which a bound must be higher to be of another optimum.

        Args:
            bound: of one of them.
        """
        table = self.table
        return difference_at_one_optimum(bound, self.options.tolerance, table.n_objects, table.x.dtype)

    def _iterated(
        self, trials: Sequence[Trial], max_iterations: int, is_hopeless: Callable[[Trace], bool]
    ) -> list[Trial]:
        """Iterate runs, as many together as there is room for."""
        size, ends = self.most_at_once(trials[0][1].state) if trials else 1, list[Trial]()
        for first in range(0, len(trials), size):
            traces, starts = zip(*trials[first : first + size], strict=True)
            if self.stopped:
                break
            group = Runs(self.mixture, self.table, self.options, traces, starts)
            group.iterate(max_iterations, self._asked, is_hopeless)
            group.close()
            ends += [(trace, group.ended[number]) for number, trace in enumerate(group.traces)]
        return sorted(ends, key=_height, reverse=True)

    def most_at_once(self, state: MixtureState) -> int:
        """Return how many runs are iterated together: as many as fit into the memory that a search may take.

        Args:
            state: of one of them.
        """
        # Responsibilities of all rows, where they are kept.
        width = self.mixture.n_components * (self.table.n_rows_of_all if reads_rows(self.mixture) else 1024)
        return max(1, min(MOST_NUMBERS // width, runs_at_once(numbers_of_run(self.mixture, state, self.table))))

    def _asked(self, trace: Trace) -> bool:
        """Return whether to go on."""
        self.stopped = self.stopped or not self._goes_on(trace)
        return not self.stopped


def _height(trial: Trial) -> float:
    """Return the last bound of a trial in nats, −∞ if it has none."""
    return trial[0].bounds[-1] if trial[0].bounds else -math.inf
