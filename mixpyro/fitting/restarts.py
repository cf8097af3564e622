"""Restarts, in lockstep where that can be and else one after the other, and the best of them so far."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Generator

from mixpyro.fitting.em import Attempt, Options, left_to_gain
from mixpyro.fitting.lockstep import Lockstep
from mixpyro.fitting.result import Run
from mixpyro.fitting.starts import Start
from mixpyro.fitting.table import Data
from mixpyro.merging import twin
from mixpyro.mixture import MixtureOfExperts

GoesOn = Callable[[Attempt], bool]


class Search:
    """The best of several runs of variational EM, each from a start of its own.

    Its state is a few tensors and numbers, so that a search that was killed goes on in another process where it stood.

    Args:
        mixture: is left as it is; every run works on a copy.
        data: what to fit.
        options: of the runs.
        starts: gone through in turn.
        n_restarts: how many runs.
        n_candidates: starts that each run tries for ``SHORT_RUN`` iterations, to go on from the best; on a
            sample of the rows where they are many.
        seed: each run draws from a generator of its own, so that none depends on how many there are.

    Attributes:
        runs: those that have ended.
        best: the run with the best outcome, and its number.
        current: the group of runs at work; of one where they cannot go in lockstep.
        lockstep: what moves them, where they can.
        stopped: whether it was told to stop.
        template: what every run begins with a copy of; the mixture, until that holds a result.
    """

    SHORT_RUN = 5
    # Rows that starts are compared on, in proportion to what the experts have to learn from them.
    FEWEST_ROWS, ROWS_A_PARAMETER, MOST_ROWS = 2000, 20, 20_000
    # A run is given up when for ten iterations a hundred times what it would still gain has not been enough.
    PATIENCE, GENEROSITY = 10, 100.0

    def __init__(
        self,
        mixture: MixtureOfExperts,
        data: Data,
        options: Options,
        starts: Sequence[Start],
        *,
        n_restarts: int,
        n_candidates: int = 3,
        seed: int = 0,
    ) -> None:
        self.mixture, self.data, self.options, self.starts = mixture, data, options, starts
        self.n_restarts, self.n_candidates, self.seed = n_restarts, n_candidates, seed
        self.template = mixture
        self.runs: list[Run] = []
        self.best: tuple[int, Attempt] | None = None
        self.current: list[Attempt] = []
        self.lockstep: Lockstep | None = None
        self.stopped = False

    def go(self, goes_on: GoesOn) -> None:
        """Run what is left to run, or until ``goes_on``, asked after every E-step, says no."""

        def asked(attempt: Attempt) -> bool:
            self.stopped = self.stopped or not goes_on(attempt)
            return not self.stopped

        while len(self.runs) < self.n_restarts and not self.stopped:
            self._run_group(asked)

    @property
    def n_ended(self) -> int:
        """Runs that have ended, those of the group at work counted in."""
        at_work = len(self.current) if self.lockstep is None else len(self.lockstep.members)
        return len(self.runs) + len(self.current) - at_work

    def _run_group(self, goes_on: GoesOn) -> None:
        if not self.current:
            self.current = self._promising(goes_on)
        if not self.stopped:
            self._iterate(self.current, self.options.max_iterations, goes_on)
        for attempt in self.current:
            self.runs.append(attempt.outcome())
            if self.best is None or rank(self.runs[-1]) > rank(self.runs[self.best[0]]):
                self.best = len(self.runs) - 1, attempt
        self.current = []

    def _iterate(self, attempts: Sequence[Attempt], max_iterations: int, goes_on: GoesOn) -> None:
        """All of them, side by side where they can be."""
        if self._goes_in_lockstep:
            self.lockstep = self.lockstep or Lockstep(attempts)
            self.lockstep.iterate(max_iterations, goes_on, self.is_hopeless)
            self.lockstep = None
            return
        for attempt in attempts:
            attempt.iterate(max_iterations, lambda one: goes_on(one) and not self.is_hopeless(one))

    def is_hopeless(self, attempt: Attempt) -> bool:
        """Whether what a run still gains, extrapolated generously, would leave it behind the best run."""
        trace = attempt.trace
        if len(trace) < self.PATIENCE + 2:
            return False
        best = max(self._bounds_to_beat(attempt), default=-math.inf)
        ends = range(len(trace) - self.PATIENCE, len(trace))
        return all(trace[end] + self.GENEROSITY * left_to_gain(trace[end - 2 : end + 1]) < best for end in ends)

    def _bounds_to_beat(self, attempt: Attempt) -> Iterator[float]:
        """What other runs have reached: the best that has ended, and those in lockstep, which are never degenerate."""
        if self.best is not None and not self.runs[self.best[0]].degeneracies:
            yield self.runs[self.best[0]].bound
        if self._goes_in_lockstep:
            yield from (other.trace[-1] for other in self.current if other is not attempt and other.trace)

    @property
    def _goes_in_lockstep(self) -> bool:
        return Lockstep.suits(self.mixture)

    @property
    def _group_size(self) -> int:
        """How many runs are at work at a time."""
        most = Lockstep.MOST_COMPONENTS // (self.n_candidates * int(self.mixture.n_components))
        return max(1, most) if self._goes_in_lockstep else 1

    def _promising(self, goes_on: GoesOn) -> list[Attempt]:
        """The next runs, each from the best of a few starts, which a sample of the rows is enough to choose."""
        numbers = range(len(self.runs), min(self.n_restarts, len(self.runs) + self._group_size))
        data = self._sample() if self.n_candidates > 1 else self.data
        begun = [attempt for number in numbers for attempt in self._candidates(number, data)]
        if self.n_candidates == 1:
            return begun
        self._iterate(begun, min(self.SHORT_RUN, self.options.max_iterations), goes_on)
        groups = (begun[first : first + self.n_candidates] for first in range(0, len(begun), self.n_candidates))
        best = [max(group, key=lambda attempt: rank(attempt.outcome())) for group in groups]
        return best if data is self.data else [self._on_all_rows(attempt) for attempt in best]

    def _candidates(self, number: int, data: Data) -> list[Attempt]:
        """Starts of the run of this number, each of another kind."""
        generator = self._generator(number)
        kinds = [self.starts[(number + i) % len(self.starts)] for i in range(self.n_candidates)]
        return [self._begun(start, data, generator) for start in kinds]

    def _sample(self) -> Data:
        """Some of the rows, for the next group of runs; or all, where they are few or have posteriors of their own."""
        wanted = self.ROWS_A_PARAMETER * int(self.mixture.experts.n_parameters)
        n_rows, n_sampled = len(self.data.x), min(max(self.FEWEST_ROWS, wanted), self.MOST_ROWS)
        if n_rows <= n_sampled or not self.mixture.gate.statistics_are_sums:
            return self.data
        # With replacement: an order of all rows would take longer than all that follows.
        rows = torch.randint(n_rows, (n_sampled,), generator=self._generator(len(self.runs), salt=1))
        return self.data.block(rows.to(self.data.x.device))

    def _generator(self, number: int, *, salt: int = 0) -> Generator:
        """For the run of this number, or for what else is drawn for it."""
        return Generator().manual_seed(((self.seed << 20) + number + (salt << 61)) % 2**63)

    def _on_all_rows(self, attempt: Attempt) -> Attempt:
        """A run that begins with what a run on a sample of the rows says of all of them."""
        return Attempt(attempt.mixture, self.data, replace(self.options, n_annealing=0))

    def _begun(self, start: Start, data: Data, generator: Generator) -> Attempt:
        copied = twin(self._centred) if self._goes_in_lockstep else copy.deepcopy(self._centred)
        attempt = Attempt(copied, data, self.options)
        attempt.begin(lambda: start(attempt.mixture, data.x, data.y, generator))
        if self._goes_in_lockstep:
            attempt.drop_responsibilities()
        return attempt

    @cached_property
    def _centred(self) -> MixtureOfExperts:
        """What every run begins with a copy of, for all runs centre alike."""
        centred = copy.deepcopy(self.template)
        centred.experts.centre(self.data.x, self.data.y)
        return centred

    def _fresh(self) -> Attempt:
        return Attempt(copy.deepcopy(self.template), self.data, self.options)

    def adopt(self) -> tuple[int, Attempt]:
        """Give the mixture the state of the best run; returns the run and its number.

        Raises:
            RuntimeError: if no run reached a finite bound.
        """
        attempt = self.best_attempt
        self.mixture.load_state_dict(attempt.mixture.state_dict())
        assert self.best is not None
        return self.best[0], attempt

    @property
    def best_attempt(self) -> Attempt:
        """The best run.

        Raises:
            RuntimeError: if no run reached a finite bound.
        """
        assert self.best is not None
        number, attempt = self.best
        if not math.isfinite(self.runs[number].bound):
            raise RuntimeError(
                f"`x` and `y` must allow a finite bound; got {self.runs[number].bound} in {len(self.runs)} runs. "
                "Scale the columns to unit order, or widen the priors."
            )
        return attempt

    def state(self) -> dict[str, Any]:
        """All that another process needs to go on, as tensors and plain values."""
        best = None if self.best is None else [self.best[0], self.best[1].state()]
        runs = [[list(run.trace), run.converged, list(run.degeneracies)] for run in self.runs]
        return {"runs": runs, "best": best, **self._state_of_group()}

    def _state_of_group(self) -> dict[str, Any]:
        """Of the runs at work, and which of them shared the last E-step: sums in another company round otherwise."""
        if self.lockstep is None:
            return {"current": [attempt.state() for attempt in self.current], "together": None}
        if not self.current:
            # Starts are being tried: another process draws them again.
            return {"current": [], "together": None}
        self.lockstep.settle()
        together = [self.current.index(member) for member in self.lockstep.members]
        return {"current": [attempt.state() for attempt in self.current], "together": together}

    def restore(self, state: dict[str, Any]) -> None:
        """Stand where the search stood whose :meth:`state` this is."""
        self.runs = [Run(tuple(trace), converged, tuple(words)) for trace, converged, words in state["runs"]]
        if state["best"] is not None:
            number, of_best = state["best"]
            self.best = number, self._restored(of_best)
        self.current = [self._restored(of_one) for of_one in state["current"]]
        if state["together"]:
            self.lockstep = Lockstep([self.current[number] for number in state["together"]])

    def _restored(self, state: dict[str, Any]) -> Attempt:
        attempt = self._fresh()
        attempt.restore(state)
        return attempt


def rank(run: Run) -> tuple[bool, float]:
    """A sound run before all others, then by the bound."""
    return math.isfinite(run.bound) and not run.degeneracies, run.bound
