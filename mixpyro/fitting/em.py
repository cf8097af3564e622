"""Variational EM: one E-step and one update for R runs with a leading axis."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.fitting.gradient.m_steps import GradientMSteps
from mixpyro.fitting.result import Run
from mixpyro.fitting.stopping import has_ended, least_tolerance
from mixpyro.fitting.table import Table
from mixpyro.mixture import MixtureOfExperts, MixtureState
from mixpyro.numerics import nested
from mixpyro.numerics.normalised import normalised
from mixpyro.part import Gradient
from mixpyro.shapes import Responsibilities, Value


@dataclass(frozen=True)
class Options:
    """How a run goes and when it stops; the fields are arguments of :func:`mixpyro.fit`."""

    max_iterations: int = 1000
    tolerance: float = 1e-7
    n_gradient_steps: int = 20
    n_annealing: int = 0

    def __post_init__(self) -> None:
        arguments.integer("max_iterations", self.max_iterations)
        arguments.positive_number("tolerance", self.tolerance, zero=True)
        arguments.integer("n_gradient_steps", self.n_gradient_steps)
        arguments.integer("n_annealing", self.n_annealing, least=0)


class Statistics(NamedTuple):
    """Sums over the rows under the responsibilities, which the next update needs."""

    gate: Value
    experts: Value


class EStep(NamedTuple):
    """What an E-step of R runs finds."""

    statistics: Statistics
    evidence: Tensor  # bounds, and sums of the rows' absolute log evidences [2, R], float64: read together, once
    responsibilities: Tensor | None  # [R, K, N], where a part of the mixture reads rows or the caller asked for them


class Snapshot(NamedTuple):
    """One run between two iterations: its state, and what its next update reads."""

    state: MixtureState
    statistics: Value = None  # of the rows; None where the next E-step must find them
    responsibilities: Tensor | None = None  # [K, N]


@dataclass
class Trace:
    """The bound of one run at every E-step so far.

    Attributes:
        bounds: in nats; −∞ for one that is not finite.
        has_ended: whether the stopping rule has been met.
    """

    bounds: list[float] = field(default_factory=list)
    has_ended: bool = False

    def record(self, bound: float, tolerance: float) -> None:
        """Append the bound of an iteration.

        Args:
            bound: in nats.
            tolerance: nats that may be left to gain when the run ends.
        """
        self.bounds.append(bound if math.isfinite(bound) else -math.inf)
        self.has_ended = has_ended(self.bounds, tolerance)

    @property
    def is_open(self) -> bool:
        """Whether another iteration can gain anything."""
        return not self.has_ended and (not self.bounds or math.isfinite(self.bounds[-1]))


def reads_rows(mixture: MixtureOfExperts) -> bool:
    """Return whether an update needs every row and its responsibilities.

    Args:
        mixture: any.
    """
    return bool(mixture.gate.reads_rows or mixture.experts.reads_rows)


def e_step(
    mixture: MixtureOfExperts, state: MixtureState, table: Table, *, keep: bool = False, power: float = 1.0
) -> EStep:
    """Compute responsibilities of R runs, their bounds, and the statistics under them, in one pass over the rows.

    Args:
        mixture: whose formulas are used; parts without formulas for many runs hold the last run's state afterwards.
        state: of R runs.
        table: with columns.
        keep: whether to return the responsibilities, as an update of a part that reads rows needs them.
        power: to which the responsibilities are raised, in (0, 1]; 1 for none.
    """
    n_runs, k = nested.length(state), mixture.n_components
    kept = table.x.new_empty(n_runs, k, len(table.x)) if keep else None
    found: tuple[Statistics, Tensor] | None = None
    for rows in table.blocks(n_runs * k):
        block = table.block(rows)
        r, log_evidence = normalised(mixture.log_joint(block.gate_x, block.columns, state, objects=rows))
        if power != 1.0:
            r = r.pow_(power).div_(r.sum(-2, keepdim=True))
        if kept is not None:
            kept[..., rows] = r
        weighted = block.weighted(log_evidence)
        evidence = torch.stack([weighted, weighted.abs()]).sum(-1, dtype=torch.float64)
        of_block = statistics_of(mixture, block, block.weighted(r)), evidence
        found = of_block if found is None else nested.add(found, of_block)
    assert found is not None
    statistics, evidence = found
    evidence[0] -= mixture.divergences(state)
    return EStep(statistics, evidence, kept)


def update(
    mixture: MixtureOfExperts,
    state: MixtureState,
    step: EStep | Snapshot,
    table: Table,
    by_gradient: Gradient,
) -> MixtureState:
    """Return the state of R runs with every part at its optimum given the responsibilities, or nearer by gradient.

    Args:
        mixture: whose formulas are used.
        state: of R runs.
        step: statistics and responsibilities of R runs.
        table: with columns.
        by_gradient: raises the share of the bound of a part without a method of its own, given the part and its rows.
    """
    r = None if step.responsibilities is None else table.weighted(step.responsibilities)
    gate, experts = mixture.gate, mixture.experts
    return MixtureState(
        gate.advanced(state.gate, step.statistics.gate, (table.gate_x,), r, by_gradient),
        experts.advanced(state.experts, step.statistics.experts, (table.x, table.y), r, by_gradient),
    )


def statistics_of(mixture: MixtureOfExperts, table: Table, responsibilities: Tensor) -> Statistics:
    """Return the sums over rows that the updates of R runs need.

    Args:
        mixture: whose formulas are used.
        table: with columns.
        responsibilities: [R, K, N], times the rows' weights.
    """
    return Statistics(
        mixture.gate.sums(table.gate_x, responsibilities), mixture.experts.sums(table.columns, responsibilities)
    )


def start(mixture: MixtureOfExperts, table: Table, responsibilities: Responsibilities) -> Snapshot:
    """Return the start of a run from the mixture's state and given responsibilities.

    Args:
        mixture: whose state the run begins with.
        table: with columns.
        responsibilities: [N, K].
    """
    r = responsibilities.mT.contiguous().unsqueeze(0)
    blocks = list(table.blocks(mixture.n_components))
    parts = [table.block(rows) for rows in blocks]
    statistics = [
        statistics_of(mixture, part, part.weighted(r[..., rows])) for part, rows in zip(parts, blocks, strict=True)
    ]
    total = statistics[0]
    for part in statistics[1:]:
        total = nested.add(total, part)
    return Snapshot(mixture.state(), nested.select(total, 0), r[0] if reads_rows(mixture) else None)


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
        open: numbers of the runs to iterate; those whose trace is open by default.

    Attributes:
        traces: of all runs.
        open: numbers of the runs that the leading axis of ``state`` holds.
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
        self.ended = {number: one for number, one in enumerate(snapshots) if number not in self.open}
        self._keeps_responsibilities = reads_rows(mixture)
        self._by_gradient = GradientMSteps(n_steps=options.n_gradient_steps)
        self._tolerance = options.tolerance * table.n_objects
        self.step: EStep | Snapshot | None = None
        if self.open:
            stacked = nested.stack([snapshots[number] for number in self.open])
            self.state: MixtureState = stacked.state
            self.step = None if stacked.statistics is None else stacked

    def anneal(self) -> None:
        """Make the annealed iterations that come before the first, if the options have any.

        They raise the responsibilities to a power that grows to one; Ueda, Nakano (1998), Deterministic annealing EM
        algorithm.
        """
        n_annealing = self.options.n_annealing if self.open else 0
        for iteration in range(1, n_annealing + 1):
            self._update()
            self.step = self._e_step(power=iteration / (n_annealing + 1))

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

        asked = True
        while asked and self._narrow([number for number in self.open if stays(self.traces[number])]):
            self._update()
            self.step = step = self._e_step()
            for number, bound, magnitude in zip(self.open, *step.evidence.tolist(), strict=True):
                rounding = least_tolerance(magnitude, self.table.x.dtype)
                self.traces[number].record(bound, max(self._tolerance, rounding))
            asked = goes_on(max((self.traces[number] for number in self.open), key=lambda trace: trace.bounds[-1]))

    def close(self) -> None:
        """End all runs that are still open, where they are."""
        self._narrow([])

    def outcome(self, number: int) -> Run:
        """Return what a run has reached, its degeneracies in words.

        Args:
            number: of a run that has ended.
        """
        bounds = tuple(self.traces[number].bounds) or (-math.inf,)
        degeneracies = self._degeneracies(number) if math.isfinite(bounds[-1]) else ()
        return Run(bounds, self.traces[number].has_ended, degeneracies)

    def responsibilities(self, number: int) -> Tensor:
        """Return q(z) [K, N] of a run under its posteriors, which are computed once.

        Args:
            number: of a run that has ended.
        """
        one = self.ended[number]
        if one.responsibilities is None:
            one = one._replace(responsibilities=responsibilities_of(self.mixture, one.state, self.table).mT)
            self.ended[number] = one
        assert one.responsibilities is not None
        return one.responsibilities

    def _e_step(self, *, power: float = 1.0) -> EStep:
        """Make an E-step of the open runs."""
        return e_step(self.mixture, self.state, self.table, keep=self._keeps_responsibilities, power=power)

    def _update(self) -> None:
        """Replace the state by the one after an update."""
        if self.step is None:
            self.step = self._e_step()
        self.state = update(self.mixture, self.state, self.step, self.table, self._by_gradient)

    def _narrow(self, staying: Sequence[int]) -> bool:
        """End the other open runs; return whether any are left."""
        kept = [place for place, number in enumerate(self.open) if number in staying]
        if len(kept) < len(self.open):
            step = self.step or Snapshot(self.state)
            whole = Snapshot(self.state, step.statistics, step.responsibilities)
            for place, number in enumerate(self.open):
                if number not in staying:
                    self.ended[number] = nested.select(whole, place)
            if kept:
                whole = nested.select(whole, kept)
                self.state, self.step = whole.state, None if whole.statistics is None else whole
            self.open = list(staying)
        return bool(self.open)

    def _degeneracies(self, number: int) -> tuple[str, ...]:
        """Return the degeneracies of both parts in words."""
        kept = self.responsibilities(number)
        self.mixture.hold(self.ended[number].state)
        table, r = self.table, self.table.weighted(kept).mT
        experts, gate = self.mixture.experts, self.mixture.gate
        return tuple(experts.degeneracies(table.x, table.y, r) + gate.degeneracies(table.gate_x, r))


def responsibilities_of(mixture: MixtureOfExperts, state: MixtureState, table: Table) -> Responsibilities:
    """Return q(z) [N, K] of one run under its posteriors.

    Args:
        mixture: whose formulas are used.
        state: of the run, without an axis of runs.
        table: with columns.
    """
    kept = e_step(mixture, nested.stack([state]), table, keep=True).responsibilities
    assert kept is not None
    return kept[0].mT
