"""Expected seconds to hit the best known optimum by single runs: the seconds of a run over the share of runs that do.

Run as ``python -m tests.benchmarks.search_runs [NAME ...] [--seconds 30]``, seconds a problem. Ways: today's starts;
random subsets alone; today's with rounds of SMEM from the four best optima that runs end at; three components more than
wanted, merged and deleted down to K. The best known optimum is the best of all ways and of sixty further runs.
"""

import argparse
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixpyro import FitResult, fit
from mixpyro.fitting.em import Snapshot
from mixpyro.fitting.moves.delete import deletable, deletions
from mixpyro.fitting.moves.merge import merges, pairs_by_overlap
from mixpyro.fitting.moves.trials import Trials
from mixpyro.fitting.runs import Options
from mixpyro.fitting.starts import random_subsets
from mixpyro.fitting.table import checked_table
from tests.benchmarks.exchanges import exchanged
from tests.benchmarks.search_problems import SearchProblem, problems

N_RUNS, N_BEYOND, N_FROM_MORE = 20, 3, 6
# Nats by which two bounds of one optimum differ at most, and SMEM's optima of a fit at most.
NATS, MOST_EXCHANGED = 0.01, 4


class Data(NamedTuple):
    """A problem and one of its tables."""

    problem: SearchProblem
    x: Tensor
    y: Tensor
    gate_x: Tensor

    def fitted(self, k: int, **options: Any) -> FitResult:
        """Fit K components."""
        return fit(self.problem.make(k), self.x, self.y, gate_x=self.gate_x, progress=False, **options)

    def trials(self, result: FitResult) -> Trials:
        """Return what makes runs from moves of a fitted mixture."""
        table = checked_table(result.mixture, self.x, self.y, self.gate_x, None)
        return Trials(result.mixture, table.with_columns(result.mixture.experts), Options(), lambda _: True)


# The bound of every run, −∞ for a degenerate one, and the seconds of all.
Found = tuple[list[float], float]


def sound(result: FitResult) -> list[float]:
    """Return the bounds of all runs, −∞ of degenerate ones."""
    return [-torch.inf if run.degeneracies else run.bound for run in result.runs]


def restarts(data: Data, seed: int, **options: Any) -> Found:
    """Return runs from some kinds of start."""
    begun = time.perf_counter()
    result = data.fitted(data.problem.k, n_restarts=N_RUNS, seed=seed, **options)
    return sound(result), time.perf_counter() - begun


def with_exchanges(data: Data, seed: int) -> Found:
    """Return runs that go on with SMEM; runs at one optimum share it, and the time counts once for each."""
    begun = time.perf_counter()
    result = data.fitted(data.problem.k, n_restarts=N_RUNS, seed=seed)
    bounds, seconds = sound(result), time.perf_counter() - begun
    trials = data.trials(result)
    for one in result.optima[:MOST_EXCHANGED]:
        if one.state is None or one.degeneracies:
            continue
        begun = time.perf_counter()
        run, _ = exchanged(trials, result.runs[one.runs[0]], Snapshot(one.state), seed)
        seconds += (time.perf_counter() - begun) * len(one.runs)
        for number in one.runs:
            bounds[number] = -torch.inf if run.degeneracies else run.bound
    return bounds, seconds


def from_more(data: Data, seed: int) -> Found:
    """Return runs of K components that began where the least needed of K + 3 had been merged or deleted."""
    k, begun = data.problem.k, time.perf_counter()
    result = data.fitted(k + N_BEYOND, n_restarts=N_FROM_MORE, seed=seed)
    seconds, bounds, trials = time.perf_counter() - begun, list[float](), data.trials(result)
    for one in result.optima:
        if one.state is None:
            continue
        begun, point = time.perf_counter(), trials.point(one.state)
        # Estimated components may take rows again: a move each is enough.
        for _ in range(N_BEYOND):
            if int((point.counts(trials.table) >= 1.0).sum()) <= k:
                break
            pairs = pairs_by_overlap(trials.mixture, trials.table, point, 3 * k)
            candidates = merges(trials.mixture, trials.table, point, pairs)
            components = deletable(trials.table, point, k + N_BEYOND)
            candidates += deletions(trials.mixture, trials.table, point, components)
            point = trials.point(trials.screened(candidates)[0][1].state)
        used = point.counts(trials.table).argsort(descending=True)[:k]
        start = point.responsibilities[used].mT + 1e-12
        last = data.fitted(k, initial_responsibilities=start / start.sum(-1, keepdim=True))
        bounds += sound(last) * len(one.runs)
        seconds += (time.perf_counter() - begun) * len(one.runs)
    return bounds, seconds


WAYS: dict[str, Callable[[Data, int], Found]] = {
    "today": restarts,
    "subsets": lambda data, seed: restarts(data, seed, starts=[random_subsets]),
    "and SMEM": with_exchanges,
    "K + 3 down": from_more,
}


def measured(problem: SearchProblem, limit: float) -> None:
    """Print a line for a problem: hits of runs and expected seconds to hit, of each way, and misses of default fits."""
    hits, runs, seconds = defaultdict[str, int](int), defaultdict[str, int](int), defaultdict[str, float](float)
    misses, tables, begun = 0, 0, time.perf_counter()
    for number, table in enumerate(problem.tables()):
        if time.perf_counter() - begun > limit:
            break
        data = Data(problem, *table)
        found = {way: search(data, 10 * number) for way, search in WAYS.items()}
        further = data.fitted(problem.k, n_restarts=60, seed=5, starts=[random_subsets])
        best = max(max(sound(further)), *(max(bounds, default=-torch.inf) for bounds, _ in found.values()))
        for way, (bounds, taken) in found.items():
            hits[way] += sum(bound > best - NATS for bound in bounds)
            runs[way] += len(bounds)
            seconds[way] += taken
        tables, misses = tables + 1, misses + (max(found["today"][0]) < best - NATS)
    figures = []
    for way in WAYS:
        share = hits[way] / max(1, runs[way])
        to_hit = seconds[way] / hits[way] if hits[way] else float("inf")
        figures.append(f"{share:>7.0%}{1e3 * to_hit:>8.0f}")
    print(f"{problem.name[:31]:<32}{problem.k:>3}{''.join(figures)}{f'{misses} of {tables}':>10}", flush=True)


@torch.no_grad()
def main() -> None:
    """Print a line a problem."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", RuntimeWarning)
    print(f"{'hits of runs, ms to hit':<32}{'K':>3}{''.join(f'{way:>15}' for way in WAYS)}{'missed':>10}")
    for problem in problems():
        if not options.names or any(name in problem.name for name in options.names):
            measured(problem, options.seconds)


if __name__ == "__main__":
    main()
