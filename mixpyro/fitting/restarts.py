"""Restarts of a fit, and the best of them so far."""

import copy
import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mixpyro import arguments
from mixpyro.arguments.signals import without_interruption
from mixpyro.distributed.processes import Processes
from mixpyro.fitting import em
from mixpyro.fitting.candidates import Candidates, Signature
from mixpyro.fitting.em import Snapshot
from mixpyro.fitting.optima import Ends
from mixpyro.fitting.outcomes import Run
from mixpyro.fitting.rows_of_all import counted_rows
from mixpyro.fitting.runs import Options, Runs, Trace
from mixpyro.fitting.starts import Start, checked_starts
from mixpyro.fitting.stopping import is_hopeless
from mixpyro.fitting.table import Table
from mixpyro.mixture import MixtureOfExperts, MixtureState
from mixpyro.numerics.blocks import runs_at_once, slices
from mixpyro.part import Part
from mixpyro.shapes import Responsibilities

GoesOn = Callable[[Trace], bool]


class Tried(NamedTuple):
    """A short run of a candidate."""

    rank: tuple[bool, float]
    trace: Trace
    end: Snapshot


class Search:
    """The best of several runs of variational EM, each from a start of its own.

    Its state is a few tensors and numbers, so that a search that was killed goes on in another process where it was.

    Args:
        mixture: is left as it is; the runs work on a copy.
        table: what to fit.
        options: of the runs.
        starts: kinds of start, used in round-robin order; see :class:`~mixpyro.fitting.candidates.Candidates`.
        n_restarts: how many runs at most, at least 1: one for every restart that has a start of its own.
        n_candidates: starts of one kind that each run tries for ``SHORT_RUN`` iterations, to go on from the best; on a
            sample of the rows where they are many.
        seed: of the starts.

    Attributes:
        ended: the runs that have ended.
        best: number of the best of them, and where it ended.
        ends: where the others ended, one for each optimum.
        current: the group of runs that is iterated, None while starts are tried.
        n_begun: number of restarts that have begun or had no start of their own, those of the current group too.
        seen: the starts of these.
        stopped: whether the search was told to stop.
        moved: whether the moves at the end have been made; see :mod:`mixpyro.fitting.moves`.
        template: what every run begins as a copy of; the mixture, until that holds a result.
    """

    # Iterations of a candidate; fewer where every run is iterated by itself, and takes its own time.
    SHORT_RUN, SHORT_RUN_ONE_BY_ONE = 40, 5
    # Components of all runs that are iterated together; the products of more would leave the cache.
    MOST_COMPONENTS = 256
    # Responsibilities of a start beyond which starts that need them are taken one by one.
    MOST_NUMBERS = 2**20

    def __init__(
        self,
        mixture: MixtureOfExperts,
        table: Table,
        options: Options,
        starts: Sequence[Start],
        *,
        n_restarts: int,
        n_candidates: int = 3,
        seed: int = 0,
        processes: Processes | None = None,
    ) -> None:
        self.processes = processes
        self.mixture, self.table, self.options, self.starts = mixture, table, options, checked_starts(starts)
        self.n_restarts = arguments.integer("n_restarts", n_restarts)
        self.n_candidates = arguments.size("n_candidates", n_candidates)
        self.seed = arguments.integer("seed", seed, least=0)
        self.n_begun, self.seen = 0, set[Signature]()
        self.ended: list[Run] = []
        self.best: tuple[int, Snapshot] | None = None
        self.ends = Ends(options.tolerance)
        self.current: Runs | None = None
        self.stopped, self.moved = False, False
        self.begin_from(mixture)

    def begin_from(self, template: MixtureOfExperts) -> None:
        """Let every run begin as a copy of a mixture.

        Args:
            template: is left as it is.
        """
        self.template = template
        self.scratch = copy.deepcopy(template)
        with counted_rows(self.table):
            self.scratch.gate.centre(self.table.gate_x)
            self.scratch.experts.centre(self.table.x, self.table.y, self.table.row_weights)
        for part in self.scratch.modules():
            if isinstance(part, Part):
                part.fix_prior()
        self.runs_one_by_one = not em.in_lockstep(self.scratch)
        self.may_degenerate = self.scratch.gate.may_degenerate or self.scratch.experts.may_degenerate
        self.initial = self.scratch.state()
        self.candidates = Candidates(self.scratch, self.starts, n_candidates=self.n_candidates, seed=self.seed)
        self.table = self.table.with_columns(self.scratch.experts)

    def go(self, goes_on: GoesOn) -> None:
        """Make the runs that are left.

        Args:
            goes_on: asked after every E-step; False stops the search.
        """

        def asked(trace: Trace) -> bool:
            self.stopped = self.stopped or not goes_on(trace)
            return not self.stopped

        while not self.stopped:
            if self.current is None:
                self.current = self._promising(asked)
            if self.current is None:
                break
            if not self.stopped:
                self._iterate(self.current, self.options.max_iterations, asked)
            self._end(self.current)
            self.current = None

    @property
    def n_ended(self) -> int:
        """Number of runs that have ended, in the current group too."""
        in_group = 0 if self.current is None else len(self.current.traces) - len(self.current.open)
        return len(self.ended) + in_group

    def _end(self, group: Runs) -> None:
        """Append the outcomes of a group, and keep the state of the best run."""
        group.close()
        for number in range(len(group.traces)):
            self.ended.append(group.outcome(number))
            self.ends.add(self.ended, group.ended[number].state, self.table)
            if self.best is None or rank(self.ended[-1]) > rank(self.ended[self.best[0]]):
                self.best = len(self.ended) - 1, Snapshot(group.ended[number].state)
            del group.ended[number]

    def _iterate(self, group: Runs, max_iterations: int, goes_on: GoesOn) -> None:
        group.iterate(max_iterations, goes_on, lambda trace: is_hopeless(trace.bounds, self._bound_to_beat(group)))

    def _bound_to_beat(self, group: Runs) -> float:
        """Return what runs have reached: the best that has ended, and any in the group if none can be degenerate."""
        bounds = [group.highest_end]
        if self.best is not None and not self.ended[self.best[0]].degeneracies:
            bounds.append(self.ended[self.best[0]].bound)
        if not self.may_degenerate:
            bounds.append(group.highest_bound)
        return max(bounds)

    @property
    def _group_size(self) -> int:
        """How many runs are iterated together: one where a part of the mixture must go run by run."""
        k = int(self.mixture.n_components)
        # A start that is not drawn on a sample has responsibilities of all rows.
        is_wide = (
            self.n_candidates == 1 and em.takes_steps(self.scratch) and k * self.table.size_of_all > self.MOST_NUMBERS
        )
        if self.runs_one_by_one or is_wide:
            return 1
        return max(1, min(self.MOST_COMPONENTS // k, self._runs_at_once) // self.n_candidates)

    @property
    def _runs_at_once(self) -> int:
        """How many runs fit into the memory that a search may take."""
        return runs_at_once(em.numbers_of_run(self.scratch, self.initial, self.table))

    def _promising(self, goes_on: GoesOn) -> Runs | None:
        """Return the next runs, each from the best of its candidates; None if no start is left that is new."""
        seen, number, starts = set(self.seen), self.n_begun, list[list[Snapshot | None]]()
        table = self.candidates.sample(self.table, number)
        self.candidates.prepare(range(number, min(number + self._group_size, self.n_restarts)), table, self.initial)
        while number < self.n_restarts and len(starts) < self._group_size:
            drawn = self.candidates.of_restart(number, table, self.initial, seen)
            starts += [drawn] if drawn else []
            number += 1
        together, group = [start for drawn in starts for start in drawn], None
        if together and (self.n_candidates > 1 or table is not self.table):
            tried = self._tried(together, table, goes_on)
            group = self._chosen(tried, table, [len(drawn) for drawn in starts])
        elif together:
            group = self._begun(together, table)
        self.seen, self.n_begun = seen, number
        return group

    def _tried(self, starts: Sequence[Snapshot | None], table: Table, goes_on: GoesOn) -> list[Tried]:
        """Return where short runs from these starts end, as many at a time as fit into memory."""
        n_iterations = self.SHORT_RUN_ONE_BY_ONE if self.runs_one_by_one else self.SHORT_RUN
        tried = list[Tried]()
        for together in slices(len(starts), self._runs_at_once):
            group = self._begun(starts[together], table)
            self._iterate(group, min(n_iterations, self.options.max_iterations), goes_on)
            group.close()
            for number, trace in enumerate(group.traces):
                key = rank(group.outcome(number)) if self.may_degenerate else (True, trace.bounds[-1])
                tried.append(Tried(key, trace, group.ended[number]))
        return tried

    def _chosen(self, tried: Sequence[Tried], table: Table, sizes: Sequence[int]) -> Runs:
        """Return the best run of every restart, given how many each has tried, on all rows."""
        ends = itertools.accumulate(sizes)
        chosen = [max(tried[end - size : end], key=lambda one: one.rank) for end, size in zip(ends, sizes, strict=True)]
        traces, snapshots = [one.trace for one in chosen], [one.end for one in chosen]
        if table is self.table:
            return Runs(self.scratch, table, self.options, traces, snapshots)
        # A run on all rows begins with what the run on a sample found of the parameters.
        options = dataclasses.replace(self.options, n_annealing=0)
        snapshots = [Snapshot(one.state) for one in snapshots]
        return Runs(self.scratch, self.table, options, [Trace() for _ in chosen], snapshots)

    def _begun(self, starts: Sequence[Snapshot | None], table: Table) -> Runs:
        """Return runs from these starts; one that failed has ended with a bound of −∞."""
        traces = [Trace() if start is not None else Trace([-math.inf]) for start in starts]
        snapshots = [start or Snapshot(self.initial) for start in starts]
        group = Runs(self.scratch, table, self.options, traces, snapshots)
        group.anneal()
        return group

    def adopt(self) -> tuple[int, Responsibilities]:
        """Give the mixture the state of the best run; return the run's number and its responsibilities [N, K].

        Raises:
            RuntimeError: if no run reached a finite bound.
        """
        number, best = self._best_snapshot()
        # Anew, of this run alone: beside others it would have other last digits than in a fit that goes on from a file.
        responsibilities = em.responsibilities_of(self.scratch, best.state, self.table)
        self.scratch.hold(best.state)
        without_interruption(lambda: self.mixture.load_state_dict(self.scratch.state_dict()))
        return number, responsibilities

    @property
    def best_state(self) -> MixtureState:
        """State of the best run.

        Raises:
            RuntimeError: if no run reached a finite bound.
        """
        return self._best_snapshot()[1].state

    def _best_snapshot(self) -> tuple[int, Snapshot]:
        """Return number and end of the best run, or raise if it has no finite bound."""
        assert self.best is not None
        number, best = self.best
        if not math.isfinite(self.ended[number].bound):
            raise RuntimeError(
                f"`x` and `y` must allow a finite bound; got {self.ended[number].bound} in {len(self.ended)} runs. "
                "Scale the columns to unit order, or widen the priors. With `observed`, each row must be possible "
                "under its component."
            )
        return number, best


def rank(run: Run) -> tuple[bool, float]:
    """Sort key: non-degenerate runs first, then higher bound.

    Args:
        run: any.
    """
    return math.isfinite(run.bound) and not run.degeneracies, run.bound
