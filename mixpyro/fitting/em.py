"""One run of variational EM from one start."""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.experts.base import Experts, add_statistics
from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.fitting.result import Run
from mixpyro.fitting.table import Data
from mixpyro.gates.base import Gate
from mixpyro.mixture import MixtureOfExperts
from mixpyro.pyro_internals.parameter_store import has_parameters
from mixpyro.shapes import Responsibilities

# Of a rounding unit, what a sum over rows is off by, as measured: the same constants are in all of them.
ROUNDING = 0.125
# Iterations that may go by without a better bound.
STALLED = 6


@dataclass(frozen=True)
class Options:
    """How a run goes and when it stops; the fields are arguments of :func:`mixpyro.fit`."""

    max_iterations: int = 1000
    tolerance: float = 1e-7
    n_gradient_steps: int = 20
    n_annealing: int = 0


class Pending(NamedTuple):
    """Statistics under the responsibilities at hand, which the next update needs."""

    gate: tuple[Tensor, ...] | None  # None for a gate that must see all responsibilities at once
    experts: tuple[Tensor, ...]

    def __add__(self, other: "Pending") -> "Pending":  # type: ignore[override]
        """Those of the rows of both."""
        gate = None if self.gate is None or other.gate is None else add_statistics(self.gate, other.gate)
        return Pending(gate, add_statistics(self.experts, other.experts))


class Attempt:
    """One run of variational EM, on a mixture of its own.

    Args:
        mixture: is changed.
        data: what to fit.
        options: how to go on and when to stop.

    Attributes:
        trace: the bound at every E-step so far.
        converged: whether the stopping rule has been met.
        pending: what the next update needs to know of the responsibilities; None where no E-step has been made yet.
        rounding: what the dtype of the data leaves uncertain of the bound, in nats.
    """

    def __init__(self, mixture: MixtureOfExperts, data: Data, options: Options) -> None:
        self.mixture, self.data, self.options = mixture, data, options
        self.trace: list[float] = []
        self.converged = False
        self.pending: Pending | None = None
        self.n_objects = data.n_objects
        self.rounding = 0.0
        self.m_steps = {part: MStep(part) for part in (mixture.gate, mixture.experts) if has_parameters(part)}
        self._responsibilities: Responsibilities | None = None

    @property
    def responsibilities(self) -> Responsibilities:
        """Of the last E-step [N, K]."""
        if self._responsibilities is None:
            with torch.no_grad(), arguments.checked_already():
                self.e_step()
        assert self._responsibilities is not None
        return self._responsibilities

    def drop_responsibilities(self) -> None:
        """Forget them until they are asked for: of many runs at a time they would be more than the data."""
        self._responsibilities = None

    def _allocated(self) -> Tensor:
        """Room for them, a column a component, as the E-step makes them: rows of K would take longer to write."""
        if self._responsibilities is None:
            self._responsibilities = self.data.x.new_empty(self.mixture.n_components, len(self.data.x)).mT
        return self._responsibilities

    def begin(self, draw: Callable[[], Responsibilities]) -> None:
        """Take the first responsibilities from ``draw``, then go through the annealed iterations if there are any.

        These raise the responsibilities to a power that grows to one; Ueda, Nakano (1998), Deterministic annealing EM
        algorithm.
        """
        with self._overflow_ends_it():
            self._allocated().copy_(draw())
            self.pending = self._statistics()
            for iteration in range(1, self.options.n_annealing + 1):
                self.update()
                self.e_step()
                tempered = self.responsibilities.pow_(iteration / (self.options.n_annealing + 1))
                tempered /= tempered.sum(-1, keepdim=True)
                self.pending = self._statistics()

    def go_on(self) -> None:
        """Take the first responsibilities from the posteriors that the mixture has."""
        with self._overflow_ends_it():
            self.pending, _ = self.e_step()

    def iterate(self, max_iterations: int, goes_on: Callable[["Attempt"], bool]) -> None:
        """Updates and E-steps until the stopping rule is met, the bound is lost, or there are ``max_iterations``.

        After every E-step responsibilities and bound are those of the posteriors; then ``goes_on`` is asked.
        """
        with self._overflow_ends_it():
            while self.is_open and len(self.trace) < max_iterations:
                if self.pending is None:
                    self.go_on()
                self.update()
                self.pending, bound = self.e_step()
                self.record(bound)
                if not goes_on(self):
                    return

    def note_rounding(self, magnitude: float) -> None:
        """Take in the sum of the rows' absolute log evidences, whose roundings, of either sign, all but cancel."""
        self.rounding = ROUNDING * torch.finfo(self.data.x.dtype).eps * magnitude

    def record(self, bound: float) -> None:
        """Note what the E-step of an iteration has found."""
        self.trace.append(bound if math.isfinite(bound) else -math.inf)
        self.converged = has_converged(self.trace, self.tolerance) or has_stalled(self.trace)

    @property
    def is_open(self) -> bool:
        """Whether there is more to be had."""
        return not self.converged and (not self.trace or math.isfinite(self.trace[-1]))

    @contextmanager
    def _overflow_ends_it(self) -> Iterator[None]:
        """A run whose numbers overflow ends with a bound of −∞."""
        try:
            yield
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            self.trace.append(-math.inf)

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs to go on where the last E-step ended."""
        return {"mixture": self.mixture.state_dict(), "trace": list(self.trace), "converged": self.converged}

    def restore(self, state: dict[str, Any]) -> None:
        """Stand where the last E-step ended of the run whose :meth:`state` this is."""
        self.mixture.load_state_dict(state["mixture"])
        self.trace, self.converged = list(state["trace"]), state["converged"]

    def e_step(self) -> tuple[Pending, float]:
        """The statistics under the new responsibilities, and the bound, in one pass; −∞ for one not finite."""
        pending, sums = self.summed()
        bound, magnitude = sums.tolist()
        self.note_rounding(magnitude)
        return pending, bound if math.isfinite(bound) else -math.inf

    def summed(self) -> tuple[Pending, Tensor]:
        """An E-step's statistics, and its bound and the sum of the absolute log evidences [2], which no one has read.

        On a GPU reading is waiting: both are read together, once an iteration.
        """
        evidence = torch.zeros(2, dtype=torch.float64, device=self.data.x.device)
        statistics, responsibilities = [], self._allocated()
        for rows in self.data.blocks():
            block = self.data.block(rows)
            r, log_evidence = self.mixture.assign_checked(block.x, block.y, gate_x=block.gate_x, objects=rows)
            responsibilities[rows] = r
            evidence += sums_of(block.weighted(log_evidence))
            statistics.append(self._statistics_of(block, r))
        evidence[0] -= self.mixture.kl_divergence()
        return functools.reduce(Pending.__add__, statistics), evidence

    def _statistics(self) -> Pending:
        """What the responsibilities at hand say."""
        parts = [self._statistics_of(self.data.block(rows), self.responsibilities[rows]) for rows in self.data.blocks()]
        return functools.reduce(Pending.__add__, parts)

    def _statistics_of(self, block: Data, responsibilities: Responsibilities) -> Pending:
        """What those of a block of rows say."""
        gate, r = self.mixture.gate, block.weighted(responsibilities)
        of_gate = gate.statistics(block.gate_x, r) if gate.statistics_are_sums else None
        return Pending(of_gate, self.mixture.experts.statistics(block.x, block.y, r))

    def update(self) -> None:
        """Every part to its optimum given the responsibilities, or nearer to it by gradient."""
        gate, data, pending = self.mixture.gate, self.data, self.pending
        assert pending is not None
        if pending.gate is None:
            gate.update(gate.statistics(data.gate_x, data.weighted(self.responsibilities)))
        else:
            gate.update(pending.gate)
        self.mixture.experts.update(pending.experts)
        if self.m_steps:
            r = data.weighted(self.responsibilities)
            self._maximise(gate, data.gate_x, r)
            self._maximise(self.mixture.experts, data.x, data.y, r)

    def outcome(self) -> Run:
        """What the run has reached, its degeneracies in words."""
        bounds = tuple(self.trace) or (-math.inf,)
        may_have = math.isfinite(bounds[-1]) and self._can_be_degenerate
        return Run(bounds, self.converged, self._degeneracies() if may_have else ())

    @property
    def _can_be_degenerate(self) -> bool:
        """Whether a part has a word to say of it, for which it would need the responsibilities."""
        gate, experts = type(self.mixture.gate), type(self.mixture.experts)
        return gate.degeneracies is not Gate.degeneracies or experts.degeneracies is not Experts.degeneracies

    def _degeneracies(self) -> tuple[str, ...]:
        data, r = self.data, self.data.weighted(self.responsibilities)
        experts, gate = self.mixture.experts, self.mixture.gate
        return tuple(experts.degeneracies(data.x, data.y, r) + gate.degeneracies(data.gate_x, r))

    def _maximise(self, part: Gate | Experts, *data: Tensor) -> None:
        """The M-step of the part's parameters, by its own method or else by SVI."""
        if part in self.m_steps and not part.maximise(*data):
            self.m_steps[part].improve(*data, n_steps=self.options.n_gradient_steps)

    @property
    def tolerance(self) -> float:
        """What may be left to gain, in nats: what the user asked for, or what rounding leaves uncertain."""
        return max(self.options.tolerance * self.n_objects, self.rounding)


def sums_of(log_evidence: Tensor) -> Tensor:
    """Σ v and Σ |v| over the first axis, [2, …], float64."""
    return torch.stack([part.sum(0, dtype=torch.float64) for part in (log_evidence, log_evidence.abs())])


def assign_all(mixture: MixtureOfExperts, data: Data) -> Responsibilities:
    """Responsibilities [N, K] under the mixture's posteriors, those of known objects brought up to date."""
    whole = Attempt(mixture, data, Options())
    whole.e_step()
    if not mixture.gate.statistics_are_sums:
        mixture.gate.update(mixture.gate.statistics(data.gate_x, data.weighted(whole.responsibilities)))
    return whole.responsibilities


def has_converged(trace: list[float], tolerance: float) -> bool:
    """Whether less than ``tolerance`` is left to gain, by Aitken's extrapolation at the last two iterations.

    At two, for a run that comes to a plateau looks for one iteration as if it had converged.
    """
    return len(trace) >= 4 and all(
        left_to_gain(trace[end - 3 : end]) <= tolerance for end in (len(trace) - 1, len(trace))
    )


def has_stalled(trace: list[float]) -> bool:
    """Whether the best of the last ``STALLED`` bounds is no better than the best of as many before: rounding is left.

    Without rounding errors a bound rises at every iteration, so that this is never so.
    """
    return len(trace) > 2 * STALLED and max(trace[-STALLED:]) <= max(trace[-2 * STALLED : -STALLED])


def left_to_gain(bounds: list[float]) -> float:
    """What a geometric series through three bounds would add to the last; McLachlan, Peel (2000), section 2.11."""
    before, last = bounds[1] - bounds[0], bounds[2] - bounds[1]
    if last <= 0.0 or before <= 0.0:
        # Rounding: the bound cannot fall otherwise.
        return abs(last)
    return last * last / (before - last) if last < before else math.inf
