"""Twenty restarts, beside the hand-written loop run twenty times, each until the same rule stops it.

Ours tries three starts a restart for five iterations each, and gives up a run that would not reach the best; the loop
by hand goes to the end from every start. So ours does more where all starts are good and much less where they are not.
"""

import time
import warnings
from collections.abc import Iterator

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit
from mixpyro.inference.attempt import ROUNDING, Options, has_converged
from tests.benchmarks.speed.hand_written import HandWritten, Problem, problem
from tests.benchmarks.speed.harness import Row

D, K = 10, 4


def rows(*, tiny: bool) -> Iterator[Row]:
    """Seconds of all restarts."""
    n_objects, n_restarts = (300, 2) if tiny else (10_000, 20)
    data = problem(n_objects, D, K)
    best = {"ours": float("inf"), "by hand": float("inf")}
    for _ in range(1 if tiny else 2):
        for name, run in (("ours", ours), ("by hand", by_hand)):
            started = time.perf_counter()
            run(data, n_restarts)
            best[name] = min(best[name], time.perf_counter() - started)
    size = f"N={n_objects}, d={D}, K={K}"
    yield Row(f"{n_restarts} restarts", size, best["ours"], "by hand, in turn", best["by hand"], ">= 3")


def ours(data: Problem, n_restarts: int) -> list[int]:
    """Fit; gives the iterations of each run."""
    mixture = MixtureOfExperts(DirichletGate(K), LinearExperts(K, D))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return [len(run.trace) for run in fit(mixture, data.x, data.y, n_restarts=n_restarts, progress=False).runs]


def by_hand(data: Problem, n_restarts: int) -> list[int]:
    """The loop from each start; gives the iterations of each."""
    lengths = []
    for seed in range(n_restarts):
        loop, tolerance = HandWritten(data.x, data.y, K, seed=seed), Options().tolerance * len(data.x)
        trace: list[float] = []
        while len(trace) < Options().max_iterations and not has_converged(trace, max(tolerance, rounding(trace))):
            trace.append(loop.iterate())
        lengths.append(len(trace))
    return lengths


def rounding(trace: list[float]) -> float:
    """What float32 leaves uncertain of the evidence, as ours takes it."""
    return ROUNDING * 1.2e-7 * abs(trace[-1]) if trace else 0.0
