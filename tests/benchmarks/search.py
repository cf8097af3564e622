"""Expected seconds to hit the best known optimum, for several ways to search.

Run as ``python -m tests.benchmarks.search [--seconds 180]``: the seconds of a fit over the share of fits that end at
the best bound which any way, or sixty further restarts, has found. Ways: today's starts; the same with rounds of SMEM
from the two best optima (one component split, two merged); three components more than wanted, merged and deleted down
to K; random subsets alone; twice the restarts.
"""

import argparse
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor

from mixpyro import DirichletGate, FitResult, LinearExperts, MixtureOfExperts, fit
from mixpyro.fitting.em import Snapshot
from mixpyro.fitting.moves.delete import deletable, deletions
from mixpyro.fitting.moves.merge import merges, pairs_by_overlap
from mixpyro.fitting.moves.trials import Trials
from mixpyro.fitting.runs import Options
from mixpyro.fitting.starts import random_subsets
from mixpyro.fitting.table import checked_table
from tests.benchmarks.exchanges import exchanged

# Make a mixture of K lines.
Make = Callable[[int], MixtureOfExperts]
N_OBJECTS, N_BEYOND = 200, 3


def lines(k: int) -> MixtureOfExperts:
    """Return lines with default priors."""
    return MixtureOfExperts(DirichletGate(k), LinearExperts(k, 1))


def simulated(k: int, noise: float, seed: int) -> tuple[Tensor, Tensor]:
    """Draw rows of K random lines."""
    generator = Generator().manual_seed(seed)
    x = torch.randn(N_OBJECTS, 1, generator=generator).double()
    truth = 2.0 * torch.randn(k, 2, generator=generator).double()
    z = torch.randint(k, (N_OBJECTS,), generator=generator)
    return x, truth[z, 0] + truth[z, 1] * x[:, 0] + noise * torch.randn(N_OBJECTS, generator=generator).double()


def trials_of(result: FitResult, x: Tensor, y: Tensor) -> Trials:
    """Return what makes runs from moves of a fitted mixture."""
    table = checked_table(result.mixture, x, y, None, None).with_columns(result.mixture.experts)
    return Trials(result.mixture, table, Options(), lambda _: True)


@torch.no_grad()
def with_exchanges(k: int, x: Tensor, y: Tensor) -> float:
    """Return the bound of today's starts and SMEM."""
    result = fit(lines(k), x, y, progress=False)
    trials, ends = trials_of(result, x, y), [result.bound]
    for one in result.optima[:2]:
        if one.state is not None:
            ends.append(exchanged(trials, result.runs[one.runs[0]], Snapshot(one.state), 0)[0].bound)
    return max(ends)


@torch.no_grad()
def from_more(k: int, x: Tensor, y: Tensor) -> float:
    """Return the bound after a few runs with more components, of which the least needed go one by one."""
    result = fit(lines(k + N_BEYOND), x, y, n_restarts=5, progress=False)
    trials = trials_of(result, x, y)
    point = trials.point(result.mixture.state())
    while int((point.counts(trials.table) >= 1.0).sum()) > k:
        pairs = pairs_by_overlap(trials.mixture, trials.table, point, 3 * k)
        components = deletable(trials.table, point, k + N_BEYOND)
        candidates = merges(trials.mixture, trials.table, point, pairs)
        candidates += deletions(trials.mixture, trials.table, point, components)
        point = trials.point(trials.screened(candidates)[0][1].state)
    used = (point.counts(trials.table)).argsort(descending=True)[:k]
    start = point.responsibilities[used].mT
    return fit(lines(k), x, y, initial_responsibilities=start + 1e-12, progress=False).bound


WAYS: dict[str, Callable[[int, Tensor, Tensor], float]] = {
    "today": lambda k, x, y: fit(lines(k), x, y, progress=False).bound,
    "and SMEM": with_exchanges,
    "K + 3 down": from_more,
    "subsets": lambda k, x, y: fit(lines(k), x, y, starts=[random_subsets], progress=False).bound,
    "40 restarts": lambda k, x, y: fit(lines(k), x, y, n_restarts=40, progress=False).bound,
}


def problems() -> Iterator[tuple[int, float]]:
    """Return numbers of lines and noises."""
    yield from ((k, noise) for k in (3, 4) for noise in (0.3, 1.0))


def main() -> None:
    """Print a line a problem and way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=180.0)
    limit = parser.parse_args().seconds / len(list(problems()))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", RuntimeWarning)
    print(f"{'problem':<24}{'way':<14}{'hits':>10}{'seconds':>10}{'to hit':>10}")
    for k, noise in problems():
        hits, seconds, seed, started = (
            defaultdict[str, int](int),
            defaultdict[str, float](float),
            0,
            time.perf_counter(),
        )
        while time.perf_counter() - started < limit:
            x, y = simulated(k, noise, seed)
            bounds = {"": fit(lines(k), x, y, n_restarts=60, seed=5, progress=False).bound}
            for way, search in WAYS.items():
                begun = time.perf_counter()
                bounds[way] = search(k, x, y)
                seconds[way] += time.perf_counter() - begun
            best, seed = max(bounds.values()), seed + 1
            for way in WAYS:
                hits[way] += bounds[way] > best - 0.01
        for way in WAYS:
            to_hit = seconds[way] / hits[way] if hits[way] else float("inf")
            figures = f"{f'{hits[way]} of {seed}':>10}{seconds[way] / seed:>10.2f}{to_hit:>10.2f}"
            print(f"{f'{k} lines, noise {noise}':<24}{way:<14}{figures}", flush=True)


if __name__ == "__main__":
    main()
