"""Restarts, one after the other, and the best of them so far."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Generator

from mixpyro.inference.attempt import Attempt, Options, left_to_gain
from mixpyro.inference.data import Data
from mixpyro.inference.result import Run
from mixpyro.inference.starts import Start
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
        n_candidates: starts that each run tries for ``SHORT_RUN`` iterations, to go on from the best; on a sample of
            ``SAMPLE_ROWS`` where there are more rows.
        seed: each run draws from a generator of its own, so that none depends on how many there are.

    Attributes:
        runs: those that have ended.
        best: the run with the best outcome, and its number.
        current: the run at work, if there is one.
        stopped: whether it was told to stop.
        template: what every run begins with a copy of; the mixture, until that holds a result.
    """

    SHORT_RUN = 5
    # Rows that starts are compared on.
    SAMPLE_ROWS = 5000
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
        self.current: Attempt | None = None
        self.stopped = False
        self._centred: MixtureOfExperts | None = None

    def go(self, goes_on: GoesOn) -> None:
        """Run what is left to run, or until ``goes_on``, asked after every E-step, says no."""

        def asked(attempt: Attempt) -> bool:
            self.stopped = self.stopped or not goes_on(attempt)
            return not self.stopped

        while len(self.runs) < self.n_restarts and not self.stopped:
            self._run(asked)

    def _run(self, goes_on: GoesOn) -> None:
        if self.current is None:
            self.current = self._promising(len(self.runs), goes_on)
        attempt = self.current
        if not self.stopped:
            attempt.iterate(self.options.max_iterations, lambda one: goes_on(one) and not self.is_hopeless(one))
        self.runs.append(attempt.outcome())
        if self.best is None or rank(self.runs[-1]) > rank(self.runs[self.best[0]]):
            self.best = len(self.runs) - 1, attempt
        self.current = None

    def is_hopeless(self, attempt: Attempt) -> bool:
        """Whether what a run still gains, extrapolated generously, would leave it behind the best run."""
        if self.best is None or self.runs[self.best[0]].degeneracies or len(attempt.trace) < self.PATIENCE + 2:
            return False
        trace, best = attempt.trace, self.runs[self.best[0]].bound
        ends = range(len(trace) - self.PATIENCE, len(trace))
        return all(trace[end] + self.GENEROSITY * left_to_gain(trace[end - 2 : end + 1]) < best for end in ends)

    def _promising(self, number: int, goes_on: GoesOn) -> Attempt:
        """A run from the best of a few starts, which a sample of the rows is enough to choose."""
        generator = Generator().manual_seed(((self.seed << 20) + number) % 2**63)
        data = self._sample(generator) if self.n_candidates > 1 else self.data
        starts = [self.starts[(number + i) % len(self.starts)] for i in range(self.n_candidates)]
        if self.n_candidates == 1:
            return self._begun(starts[0], data, generator)
        begun = []
        for start in starts:
            begun.append(self._begun(start, data, generator))
            begun[-1].iterate(min(self.SHORT_RUN, self.options.max_iterations), goes_on)
        best = max(begun, key=lambda attempt: rank(attempt.outcome()))
        return best if data is self.data else self._on_all_rows(best)

    def _sample(self, generator: Generator) -> Data:
        """Some of the rows, or all where they are few or have posteriors of their own."""
        n_rows = len(self.data.x)
        if n_rows <= self.SAMPLE_ROWS or not self.mixture.gate.statistics_are_sums:
            return self.data
        # With replacement: an order of all rows would take longer than all that follows.
        rows = torch.randint(n_rows, (self.SAMPLE_ROWS,), generator=generator)
        return self.data.block(rows.to(self.data.x.device))

    def _on_all_rows(self, attempt: Attempt) -> Attempt:
        """A run that begins with what a run on a sample of the rows says of all of them."""
        continued = Attempt(attempt.mixture, self.data, replace(self.options, n_annealing=0))
        continued.go_on()
        return continued

    def _begun(self, start: Start, data: Data, generator: Generator) -> Attempt:
        if self._centred is None:
            # Once, for all runs centre alike.
            self._centred = copy.deepcopy(self.mixture)
            self._centred.experts.centre(self.data.x, self.data.y)
        attempt = Attempt(copy.deepcopy(self._centred), data, self.options)
        attempt.begin(lambda: start(attempt.mixture, data.x, data.y, generator))
        return attempt

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
        current = None if self.current is None else self.current.state()
        runs = [[list(run.trace), run.converged, list(run.degeneracies)] for run in self.runs]
        return {"runs": runs, "best": best, "current": current}

    def restore(self, state: dict[str, Any]) -> None:
        """Stand where the search stood whose :meth:`state` this is."""
        self.runs = [Run(tuple(trace), converged, tuple(words)) for trace, converged, words in state["runs"]]
        if state["best"] is not None:
            number, of_best = state["best"]
            self.best = number, self._restored(of_best)
        if state["current"] is not None:
            self.current = self._restored(state["current"])

    def _restored(self, state: dict[str, Any]) -> Attempt:
        attempt = self._fresh()
        attempt.restore(state)
        return attempt


def rank(run: Run) -> tuple[bool, float]:
    """A sound run before all others, then by the bound."""
    return math.isfinite(run.bound) and not run.degeneracies, run.bound
