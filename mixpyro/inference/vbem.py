"""Variational EM on the full data, with restarts."""

import copy
import functools
import math
import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from mixpyro import validation
from mixpyro.experts.base import Experts, add_statistics
from mixpyro.gates.base import Gate
from mixpyro.inference.data import Data, checked_data
from mixpyro.inference.m_step import MStep
from mixpyro.inference.restarts import Start, given_start, random_starts
from mixpyro.inference.result import FitResult, Run
from mixpyro.mixture import MixtureOfExperts
from mixpyro.parameters import has_parameters
from mixpyro.typing import GateInputs, Inputs, Responsibilities, Targets


@dataclass(frozen=True)
class Options:
    """How a run goes and when it stops; the fields are arguments of :func:`fit`."""

    max_iterations: int
    tolerance: float
    n_gradient_steps: int


def fit(
    mixture: MixtureOfExperts,
    x: Inputs,
    y: Targets,
    *,
    gate_x: GateInputs | None = None,
    weights: Float[Tensor, " N"] | None = None,
    n_restarts: int = 20,
    initial_responsibilities: Responsibilities | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-7,
    n_gradient_steps: int = 20,
    seed: int = 0,
    progress: bool = True,
) -> FitResult:
    """Fit a mixture of experts by variational EM, from several starts, and keep the best.

    An iteration computes the responsibilities and the bound, then the conjugate updates of gate and experts, then
    Pyro's SVI on the parameters that have no closed form (a network, a learnt prior). The bound never falls, rounding
    apart, if a network is a function of its parameters: no dropout in training mode. A run stops when what is left to
    gain, extrapolated from the last three bounds (Aitken), is below ``tolerance`` nats an object.

    Args:
        mixture: what to fit, in place; it is left as it was if the fit raises.
        x: inputs [N, D], finite, on the mixture's device.
        y: outputs [N, P] or [N], finite, of x's dtype and device.
        gate_x: what the gate sees [N, G], where that is not x: other columns, or none.
        weights: how much each row counts [N], at least 0; a row of weight three is three rows. Not for the mean-field
            per-object gate, where three objects are not one.
        n_restarts: how many starts to run from. A network's weights are where they are in each of them.
        initial_responsibilities: a start of your own [N, K], non-negative; it is the only one then.
        max_iterations: most iterations of a run.
        tolerance: in nats an object, at least 0. In float32 no less than rounding allows is asked for.
        n_gradient_steps: most steps of SVI an iteration, by L-BFGS, for what has no closed form.
        seed: of the starts, at least 0. Same seed, same result; the global random state is neither used nor changed.
        progress: show a progress bar once a fit has taken two seconds.

    Returns:
        The fitted mixture with the bound, its trace, the responsibilities and what each restart reached.

    Raises:
        TypeError: if x or y is no floating tensor.
        ValueError: if a shape, dtype, device or value does not fit, or N = 0.
        RuntimeError: if no run reached a finite bound.

    Warns:
        RuntimeWarning: if the best run has not converged, if every run is degenerate, or if only one of several reached
            the best bound.

    References:
        Bishop (2006), Pattern Recognition and Machine Learning, section 10.2;
        McLachlan, Peel (2000), Finite Mixture Models, section 2.11 (the stopping rule).
    """
    if not isinstance(mixture, MixtureOfExperts):
        raise TypeError(f"`mixture` must be a MixtureOfExperts; got {type(mixture).__name__}.")
    data = checked_data(mixture, x, y, gate_x, weights)
    options = Options(
        max_iterations=validation.integer("max_iterations", max_iterations),
        tolerance=validation.positive_number("tolerance", tolerance, zero=True),
        n_gradient_steps=validation.integer("n_gradient_steps", n_gradient_steps),
    )
    seed = validation.integer("seed", seed, least=0)
    starts = random_starts(validation.integer("n_restarts", n_restarts), seed)
    if initial_responsibilities is not None:
        starts = [given_start(_checked_start(initial_responsibilities, mixture.n_components, len(data.x)))]
    best: tuple[int, Attempt] | None = None
    runs: list[Run] = []
    with (
        validation.checked_already(),
        torch.no_grad(),
        tqdm(total=len(starts), unit="restart", delay=2.0, disable=not progress, leave=False) as bar,
    ):
        for number, start in enumerate(starts):
            attempt = Attempt(copy.deepcopy(mixture), data, options)
            attempt.mixture.experts.centre(data.x, data.y)
            runs.append(attempt.run(start, bar))
            if best is None or _rank(runs[number]) > _rank(runs[best[0]]):
                best = number, attempt
            bar.update()
    assert best is not None
    return _result(mixture, runs, *best)


def _checked_start(start: Tensor, n_components: int, n_objects: int) -> Tensor:
    name = "initial_responsibilities"
    validation.responsibilities(start, n_components, n_objects, name=name)
    if bool((start.sum(-1) <= 0).any()):
        raise ValueError(f"`{name}` must have a positive sum in every row; got a row of zeros.")
    if n_components > 1 and bool((start == start[:, :1]).all()):
        raise ValueError(f"`{name}` must differ between components; got equal ones, a saddle that no update leaves.")
    return start.detach()


def _rank(run: Run) -> tuple[bool, float]:
    """A sound run before all others, then by the bound."""
    return math.isfinite(run.bound) and not run.degeneracies, run.bound


class Attempt:
    """One run of variational EM, on a mixture of its own.

    Args:
        mixture: is changed.
        data: what to fit.
        options: how to go on and when to stop.
    """

    def __init__(self, mixture: MixtureOfExperts, data: Data, options: Options) -> None:
        self.mixture, self.data, self.options = mixture, data, options
        self.responsibilities = data.x.new_empty(len(data.x), mixture.n_components)
        self.trace: list[float] = []
        self.rounding = 0.0
        self.m_steps = {part: MStep(part) for part in (mixture.gate, mixture.experts) if has_parameters(part)}

    def run(self, start: Start, bar: tqdm) -> Run:
        """Iterate from where ``start`` says until the stopping rule is met or the iterations run out.

        A run whose numbers overflow ends with a bound of −∞.
        """
        try:
            self.responsibilities.copy_(start(self.mixture, self.data.x, self.data.y))
            self.update(self.experts_statistics())
            converged = self._iterate(bar)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            self.trace.append(-math.inf)
            return Run(tuple(self.trace), False)
        sound = math.isfinite(self.trace[-1])
        return Run(tuple(self.trace), converged, self._degeneracies() if sound else ())

    def _iterate(self, bar: tqdm) -> bool:
        for iteration in range(self.options.max_iterations):
            statistics = self.e_step()
            bar.set_postfix({"iteration": iteration, "bound": f"{self.trace[-1]:.6g}"}, refresh=False)
            bar.update(0)
            if not math.isfinite(self.trace[-1]):
                self.trace[-1] = -math.inf
                return False
            if has_converged(self.trace, self.tolerance):
                return True
            if iteration + 1 < self.options.max_iterations:
                self.update(statistics)
        return False

    def e_step(self) -> tuple[Tensor, ...]:
        """Responsibilities and bound under the current posteriors, and the experts' statistics, in one pass."""
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
        self.trace.append(float(evidence - self.mixture.kl_divergence()))
        self.rounding = torch.finfo(self.data.x.dtype).eps * float(magnitude)
        return functools.reduce(add_statistics, statistics)

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


def _result(mixture: MixtureOfExperts, runs: list[Run], best: int, attempt: Attempt) -> FitResult:
    """Move the best run's state into the user's mixture."""
    if not math.isfinite(runs[best].bound):
        raise RuntimeError(
            f"`x` and `y` must allow a finite bound; got {runs[best].bound} in {len(runs)} runs. "
            "Scale the columns to unit order, or widen the priors."
        )
    mixture.load_state_dict(attempt.mixture.state_dict())
    result = FitResult(mixture, attempt.responsibilities, best, tuple(runs), attempt.data.weights)
    for said in _warnings(result):
        warnings.warn(said, RuntimeWarning, stacklevel=3)
    return result


def _warnings(result: FitResult) -> list[str]:
    """What a user must know before trusting the result."""
    found = []
    if not result.converged:
        found.append(f"the best run has not converged in {result.n_iterations} iterations; raise `max_iterations`.")
    if result.degeneracies:
        found.append(f"every run is degenerate: {'; '.join(result.degeneracies)}.")
    if len(result.runs) > 1 and result.n_reached_best() == 1:
        found.append(f"only one of {len(result.runs)} restarts reached the best bound; raise `n_restarts` to trust it.")
    return found
