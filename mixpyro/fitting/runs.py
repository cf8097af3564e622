"""Runs of variational EM that are iterated together, each of which ends by itself."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from mixpyro import arguments
from mixpyro.fitting.acceleration import Accelerator
from mixpyro.fitting.em import EStep, Snapshot, e_step, reads_rows, responsibilities_of, takes_steps
from mixpyro.fitting.findings import degeneracies
from mixpyro.fitting.gradient.m_steps import GradientMSteps
from mixpyro.fitting.outcomes import Run
from mixpyro.fitting.pace import Pace, Step
from mixpyro.fitting.shorter_steps import Reached, shortened
from mixpyro.fitting.stopping import has_stalled, least_tolerance
from mixpyro.fitting.table import Table
from mixpyro.mixture import MixtureOfExperts, MixtureState
from mixpyro.numerics import nested


@dataclass(frozen=True)
class Options:
    """How a run goes and when it stops; the fields are arguments of :func:`mixpyro.fit`."""

    max_iterations: int = 1000
    tolerance: float = 1e-7
    n_gradient_steps: int = 20
    n_annealing: int = 0

    def __post_init__(self) -> None:
        checked = {
            "max_iterations": arguments.integer("max_iterations", self.max_iterations),
            "tolerance": arguments.positive_number("tolerance", self.tolerance, zero=True),
            "n_gradient_steps": arguments.integer("n_gradient_steps", self.n_gradient_steps),
            "n_annealing": arguments.integer("n_annealing", self.n_annealing, least=0),
        }
        for name, value in checked.items():
            # A tensor of one number becomes a number: a dtype may have no arithmetic.
            object.__setattr__(self, name, value)


@dataclass
class Trace:
    """The bound of one run at every E-step so far.

    Attributes:
        bounds: in nats; −∞ for one that is not finite. An E-step of a state that was not taken, because its bound is
            lower, is an iteration too: it repeats the bound before.
        has_ended: whether the stopping rule has been met.
        pace: whether the next iteration is extrapolated.
    """

    bounds: list[float] = field(default_factory=list)
    has_ended: bool = False
    pace: Pace = field(default_factory=Pace)

    def record(self, bound: float, tolerance: float, step: Step = Step.PLAIN) -> None:
        """Append the bound of an iteration.

        Args:
            bound: in nats.
            tolerance: nats that may be left to gain when the run ends.
            step: what the iteration was.
        """
        rejected = step is Step.REJECTED
        self.bounds.append(self.bounds[-1] if rejected else bound if math.isfinite(bound) else -math.inf)
        self.has_ended = self.pace.record(self.bounds, tolerance, step) or has_stalled(self.bounds)

    @property
    def is_open(self) -> bool:
        """Whether another iteration can gain anything."""
        return not self.has_ended and (not self.bounds or math.isfinite(self.bounds[-1]))


class Runs:
    """R runs of variational EM on the same rows, each of which ends by itself.

    All go in one pass over the rows. On a few thousand rows an iteration is mostly function calls, which the runs
    share; on many rows the products of the columns, which the statistics are sums of, are computed once.

    Args:
        mixture: whose formulas are used; its state is overwritten.
        table: with columns.
        options: when a run stops.
        traces: of the runs, one each; empty for new runs.
        snapshots: where the runs are.
        open: numbers of the runs to iterate, of runs that go on from a checkpoint; those whose trace is open by
            default.

    Attributes:
        traces: of all runs.
        open: numbers of the runs that the leading axis of ``state`` holds.
        highest_bound: highest of the runs' last bounds, in nats.
        highest_end: highest bound at which a run without degeneracies has converged, in nats; −∞ where none has.
        state: of the open runs.
        ended: where each of the other runs has ended.
    """

    def __init__(
        self,
        mixture: MixtureOfExperts,
        table: Table,
        options: Options,
        traces: Sequence[Trace],
        snapshots: Sequence[Snapshot],
        *,
        open: Sequence[int] | None = None,
    ) -> None:
        self.mixture, self.table, self.options = mixture, table, options
        self.traces = list(traces)
        self.open = [n for n, trace in enumerate(self.traces) if trace.is_open] if open is None else list(open)
        self._is_restored = open is not None
        self.highest_bound = self._highest_bound()
        self.ended = {number: one for number, one in enumerate(snapshots) if number not in self.open}
        self._parts = mixture.gate, mixture.experts
        # Degeneracies of runs that have ended.
        self._words: dict[int, tuple[str, ...]] = {}
        self.highest_end = self._highest_end(self.ended)
        self._keeps_responsibilities, self._takes_steps = reads_rows(mixture), takes_steps(mixture)
        self._by_gradient = GradientMSteps(n_steps=options.n_gradient_steps)
        self._tolerance = options.tolerance * table.n_objects
        self.accelerator = Accelerator(mixture, table)
        self.step: EStep | Snapshot | None = None
        if self.open:
            stacked = nested.stack(_alike([snapshots[number] for number in self.open]))
            self.state: MixtureState = stacked.state
            self.step = None if stacked.statistics is None else stacked

    def anneal(self) -> None:
        """Make the annealed iterations that come before the first, if the options have any.

        They raise the responsibilities to a power that grows to one; Ueda, Nakano (1998), Deterministic annealing EM
        algorithm.
        """
        n_annealing = self.options.n_annealing if self.open else 0
        for iteration in range(1, n_annealing + 1):
            if self.step is None:
                self.step = self._e_step(self.state)
            self._update()
            self.step = self._e_step(self.state, power=iteration / (n_annealing + 1))

    def iterate(
        self, max_iterations: int, goes_on: Callable[[Trace], bool], is_hopeless: Callable[[Trace], bool]
    ) -> None:
        """Update and make E-steps until every run has ended, or has made enough iterations.

        Args:
            max_iterations: of each run, those before counted.
            goes_on: asked after every E-step, of the open run with the highest bound; False stops all.
            is_hopeless: whether a run should be given up.
        """

        def stays(trace: Trace) -> bool:
            return trace.is_open and len(trace.bounds) < max_iterations and not is_hopeless(trace)

        if self._is_restored and self.open and self.step is None:
            # In the company of the runs that have just ended, whose sums would be rounded otherwise.
            self.step = self._e_step(self.state)
        asked = True
        while asked and self._narrow([number for number in self.open if stays(self.traces[number])]):
            self._iterate()
            self.highest_bound = self._highest_bound()
            asked = goes_on(max((self.traces[number] for number in self.open), key=lambda trace: trace.bounds[-1]))

    def _iterate(self) -> None:
        """Update the open runs, make an E-step, and go back to the states before where that lowers the bound."""
        traces = [self.traces[number] for number in self.open]
        before = [trace.bounds[-1] if trace.bounds else -math.inf for trace in traces]
        if self.step is None:
            self.step = self._e_step(self.state)
            if self._takes_steps:
                before = self.step.evidence[0].tolist()
        state = self.state
        self._update()
        self.step = self._e_step(self.state)
        reached = Reached(self.state, self.step, *self.step.evidence.tolist())
        shorter: list[int] = []
        if self._takes_steps:
            tried_before = self.accelerator.tried or [False] * len(traces)
            kept = [-math.inf if tried else bound for bound, tried in zip(before, tried_before, strict=True)]
            reached, shorter = shortened(self.mixture, reached, state, kept, self._rounding, self._e_step)
            self.step = reached.step
            self.accelerator.lose(shorter)
        self.state, steps = self.accelerator.judged(reached.state, reached.bounds, before)
        for place, trace in enumerate(traces):
            kind = Step.SHORTENED if place in shorter else steps[place]
            rounding = self._rounding(reached.magnitudes[place])
            trace.record(reached.bounds[place], max(self._tolerance, rounding), kind)

    def _rounding(self, magnitude: float) -> float:
        """Return the rounding error of a bound in nats, given the sum of the rows' absolute log evidences."""
        return least_tolerance(magnitude, self.table.x.dtype)

    def _highest_bound(self) -> float:
        """Return the highest of the runs' last bounds in nats, −∞ if there is none."""
        return max((trace.bounds[-1] for trace in self.traces if trace.bounds), default=-math.inf)

    def _highest_end(self, numbers: Iterable[int], than: float = -math.inf) -> float:
        """Return the highest bound at which a run that is not degenerate has converged, of some runs that have ended.

        Args:
            numbers: of the runs.
            than: what to return where none of them is higher.
        """
        for number in numbers:
            trace = self.traces[number]
            if trace.has_ended and than < trace.bounds[-1] < math.inf and not self._degeneracies(number):
                than = trace.bounds[-1]
        return than

    def close(self) -> None:
        """End all runs that are still open, where they are."""
        self._narrow([])

    def outcome(self, number: int) -> Run:
        """Return what a run has reached, its degeneracies in words.

        Args:
            number: of a run that has ended.
        """
        bounds = tuple(self.traces[number].bounds) or (-math.inf,)
        found = self._degeneracies(number) if math.isfinite(bounds[-1]) else ()
        if any(_has_nan(one) for one in nested.tensors(self.ended[number].state)):
            found = (*found, "estimates are not numbers")
        return Run(bounds, self.traces[number].has_ended, found)

    def responsibilities(self, number: int) -> Tensor:
        """Return q(z) [K, N] of a run under its posteriors. They are not kept: runs that go on together are alike.

        Args:
            number: of a run that has ended.
        """
        end = self.ended[number]
        if end.responsibilities is not None:
            return end.responsibilities
        return responsibilities_of(self.mixture, end.state, self.table).mT

    def _e_step(self, state: MixtureState, *, power: float = 1.0) -> EStep:
        """Make an E-step of the open runs."""
        n_runs, keep = len(self.open), self._keeps_responsibilities
        return e_step(self.mixture, state, self.table, n_runs=n_runs, keep=keep, power=power)

    def _update(self) -> None:
        """Replace the state by the one after an update."""
        assert self.step is not None
        paces = [self.traces[number].pace for number in self.open]
        self.state = self.accelerator.updated(self.state, self.step, self._by_gradient, paces)

    def _narrow(self, staying: Sequence[int]) -> bool:
        """End the other open runs; return whether any are left."""
        kept = [place for place, number in enumerate(self.open) if number in staying]
        if len(kept) < len(self.open):
            step = self.step or Snapshot(self.state)
            whole = Snapshot(self.state, step.statistics, step.responsibilities)
            for place, number in enumerate(self.open):
                if number not in staying:
                    one = nested.select(whole, place)
                    self.ended[number] = Snapshot(one.state) if self.accelerator.is_rejected(place) else one
            self.highest_end = self._highest_end(set(self.open).difference(staying), self.highest_end)
            if kept:
                self.accelerator.narrow(kept)
                whole = nested.select(whole, kept)
                self.state, self.step = whole.state, None if whole.statistics is None else whole
            self.open = list(staying)
        return bool(self.open)

    def _degeneracies(self, number: int) -> tuple[str, ...]:
        """Return the degeneracies of both parts in words, which are looked for once."""
        if number not in self._words:
            self._words[number] = self._new_degeneracies(number)
        return self._words[number]

    def _new_degeneracies(self, number: int) -> tuple[str, ...]:
        """Return the same, looked for."""
        state = self.ended[number].state
        if not any(part.is_near_degeneracy(own) for part, own in zip(self._parts, state, strict=True)):
            return ()
        responsibilities = self.responsibilities(number).mT
        self.mixture.hold(state)
        return degeneracies(self.mixture, self.table, responsibilities)


def _has_nan(tensor: Tensor) -> bool:
    """Return whether any of the numbers is none; a sum that is one, of all, says no at once."""
    return math.isnan(float(tensor.sum())) and bool(tensor.isnan().any())


def _alike(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """Return the snapshots, all of them without statistics if any has none."""
    if all(one.statistics is not None for one in snapshots):
        return list(snapshots)
    return [Snapshot(one.state) for one in snapshots]
