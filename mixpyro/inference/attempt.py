"""One run of variational EM from one start."""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixpyro.experts.base import Experts, add_statistics
from mixpyro.gates.base import Gate
from mixpyro.inference.data import Data
from mixpyro.inference.m_step import MStep
from mixpyro.inference.result import Run
from mixpyro.mixture import MixtureOfExperts
from mixpyro.parameters import has_parameters
from mixpyro.typing import Responsibilities


@dataclass(frozen=True)
class Options:
    """How a run goes and when it stops; the fields are arguments of :func:`mixpyro.fit`."""

    max_iterations: int = 1000
    tolerance: float = 1e-7
    n_gradient_steps: int = 20
    n_annealing: int = 0


class Attempt:
    """One run of variational EM, on a mixture of its own.

    Args:
        mixture: is changed.
        data: what to fit.
        options: how to go on and when to stop.

    Attributes:
        responsibilities: of the last E-step [N, K].
        trace: the bound at every E-step so far.
        converged: whether the stopping rule has been met.
        pending: the experts' statistics under the responsibilities, which the next update needs.
    """

    def __init__(self, mixture: MixtureOfExperts, data: Data, options: Options) -> None:
        self.mixture, self.data, self.options = mixture, data, options
        self.responsibilities = data.x.new_empty(len(data.x), mixture.n_components)
        self.trace: list[float] = []
        self.converged = False
        self.pending: tuple[Tensor, ...] = ()
        self.rounding = 0.0
        self.m_steps = {part: MStep(part) for part in (mixture.gate, mixture.experts) if has_parameters(part)}

    def begin(self, draw: Callable[[], Responsibilities]) -> None:
        """Take the first responsibilities from ``draw``, then go through the annealed iterations if there are any.

        These raise the responsibilities to a power that grows to one; Ueda, Nakano (1998), Deterministic annealing EM
        algorithm.
        """
        with self._overflow_ends_it():
            self.responsibilities.copy_(draw())
            self.pending = self.experts_statistics()
            for iteration in range(1, self.options.n_annealing + 1):
                self.update(self.pending)
                self.e_step()
                tempered = self.responsibilities ** (iteration / (self.options.n_annealing + 1))
                self.responsibilities = tempered / tempered.sum(-1, keepdim=True)
                self.pending = self.experts_statistics()

    def iterate(self, max_iterations: int, goes_on: Callable[["Attempt"], bool]) -> None:
        """Updates and E-steps until the stopping rule is met, the bound is lost, or there are ``max_iterations``.

        After every E-step responsibilities and bound are those of the posteriors; then ``goes_on`` is asked.
        """
        with self._overflow_ends_it():
            while self.is_open and len(self.trace) < max_iterations:
                self.update(self.pending)
                self.pending, bound = self.e_step()
                self.trace.append(bound)
                self.converged = has_converged(self.trace, self.tolerance)
                if not goes_on(self):
                    return

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
        if self.trace and math.isfinite(self.trace[-1]):
            self.pending, _ = self.e_step()

    def e_step(self) -> tuple[tuple[Tensor, ...], float]:
        """The experts' statistics under the new responsibilities, and the bound, in one pass; −∞ for one not finite."""
        evidence = torch.zeros((), dtype=torch.float64, device=self.data.x.device)
        magnitude = torch.zeros_like(evidence)
        statistics = []
        for rows in self.data.blocks():
            block = self.data.block(rows)
            r, log_evidence = self.mixture.assign(block.x, block.y, gate_x=block.gate_x, objects=rows)
            self.responsibilities[rows] = r
            evidence += block.weighted(log_evidence).sum(dtype=torch.float64)
            magnitude += block.weighted(log_evidence).abs().sum(dtype=torch.float64)
            statistics.append(self.mixture.experts.statistics(block.x, block.y, block.weighted(r)))
        bound = float(evidence - self.mixture.kl_divergence())
        self.rounding = torch.finfo(self.data.x.dtype).eps * float(magnitude)
        return functools.reduce(add_statistics, statistics), bound if math.isfinite(bound) else -math.inf

    def experts_statistics(self) -> tuple[Tensor, ...]:
        """The experts' statistics under the responsibilities at hand."""
        experts, statistics = self.mixture.experts, []
        for rows in self.data.blocks():
            block = self.data.block(rows)
            statistics.append(experts.statistics(block.x, block.y, block.weighted(self.responsibilities[rows])))
        return functools.reduce(add_statistics, statistics)

    def update(self, experts_statistics: tuple[Tensor, ...]) -> None:
        """Every part to its optimum given the responsibilities, or nearer to it by gradient."""
        gate, experts, data = self.mixture.gate, self.mixture.experts, self.data
        r = data.weighted(self.responsibilities)
        gate.update(gate.statistics(data.gate_x, r))
        experts.update(experts_statistics)
        self._maximise(gate, data.gate_x, r)
        self._maximise(experts, data.x, data.y, r)

    def outcome(self) -> Run:
        """What the run has reached, its degeneracies in words."""
        bounds = tuple(self.trace) or (-math.inf,)
        return Run(bounds, self.converged, self._degeneracies() if math.isfinite(bounds[-1]) else ())

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
        return max(self.options.tolerance * self.data.n_objects, self.rounding)


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


def left_to_gain(bounds: list[float]) -> float:
    """What a geometric series through three bounds would add to the last; McLachlan, Peel (2000), section 2.11."""
    before, last = bounds[1] - bounds[0], bounds[2] - bounds[1]
    if last <= 0.0 or before <= 0.0:
        # Rounding: the bound cannot fall otherwise.
        return abs(last)
    return last * last / (before - last) if last < before else math.inf
