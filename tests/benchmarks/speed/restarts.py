"""Time twenty restarts, ours and the hand-written loop run twenty times, with the same stopping rule.

Ours tries three starts a restart for five iterations each, and ends a run early that would not reach the best. The
hand-written loop finishes every run. So ours does more work where all starts are good and much less where they are not.
"""

import warnings
from collections.abc import Iterator

import torch

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit
from mixpyro.fitting.runs import Options
from mixpyro.fitting.stopping import has_converged, least_tolerance
from tests.benchmarks.speed.hand_written import HandWritten, Problem, problem
from tests.benchmarks.speed.harness import Row, Sizes, fastest

SIZES = Sizes(10_000, 10, 4)
TINY = Sizes(300, 10, 4)


def rows(sizes: Sizes) -> Iterator[Row]:
    """Yield the seconds of all restarts."""
    n_restarts, n_repeats = (2, 1) if sizes.tiny else (20, 3)
    data, k = problem(*sizes[:3]), sizes.n_components
    seconds = fastest(lambda: ours(data, k, n_restarts), lambda: by_hand(data, k, n_restarts), repeats=n_repeats)
    yield Row(f"{n_restarts} restarts", str(sizes), seconds[0], "by hand, in turn", seconds[1], ">= 3")


def ours(data: Problem, k: int, n_restarts: int) -> list[int]:
    """Fit by mixpyro; return the iterations of each run."""
    mixture = MixtureOfExperts(DirichletGate(k), LinearExperts(k, data.x.shape[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return [len(run.trace) for run in fit(mixture, data.x, data.y, n_restarts=n_restarts, progress=False).runs]


def by_hand(data: Problem, k: int, n_restarts: int) -> list[int]:
    """Run the hand-written loop from each start; return the iterations of each."""
    lengths = []
    for seed in range(n_restarts):
        loop, tolerance = HandWritten(data.x, data.y, k, seed=seed), Options().tolerance * len(data.x)
        trace: list[float] = []
        while len(trace) < Options().max_iterations and not has_converged(trace, max(tolerance, rounding(trace))):
            trace.append(loop.iterate())
        lengths.append(len(trace))
    return lengths


def rounding(trace: list[float]) -> float:
    """Return the rounding error of the evidence in float32, in nats, as ours computes it."""
    return least_tolerance(abs(trace[-1]), torch.float32) if trace else 0.0
