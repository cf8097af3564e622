"""Count the iterations of slow fits with and without acceleration.

Run as ``python -m tests.benchmarks.acceleration``; under a minute on one core. Each fit has one start, at the true
components, and every E-step counts as an iteration, those of states that were not taken too.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from mixpyro import (
    DirichletGate,
    FitResult,
    GaussianExperts,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    SoftmaxGate,
    fit,
)
from mixpyro.experts.families import Poisson
from mixpyro.fitting import pace
from tests.benchmarks.simulated import SETTINGS, simulate


class Problem(NamedTuple):
    """A mixture to fit, its data, and the true components, softened."""

    make: Callable[[], MixtureOfExperts]
    x: Tensor
    y: Tensor
    start: Tensor


def softened(components: Tensor, k: int) -> Tensor:
    """Return responsibilities [N, K] near the true components."""
    return nn.functional.one_hot(components, k).double() + 0.05


def overlapping_lines(seed: int, n_objects: int) -> Problem:
    """Return the overlapping lines of the benchmark of coverage."""
    x, y, z, _ = simulate(SETTINGS[2], seed, n_objects)
    return Problem(lambda: MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)), x, y, softened(z, 2))


def gated_lines(seed: int, n_objects: int) -> Problem:
    """Return the same lines under a gate whose weights depend on x."""
    x, y, z, _ = simulate(SETTINGS[2], seed, n_objects)
    return Problem(
        lambda: MixtureOfExperts(SoftmaxGate(2, 1, prior_scale=3.0), LinearExperts(2, 1)), x, y, softened(z, 2)
    )


def counts(seed: int, n_objects: int) -> Problem:
    """Return two Poisson regressions."""
    generator = Generator().manual_seed(seed)
    x = 2.0 * torch.rand(n_objects, 1, generator=generator).double() - 1.0
    z = torch.rand(n_objects, generator=generator) < 0.4
    y = torch.poisson(torch.where(z, (1.0 + 0.8 * x[:, 0]).exp(), (0.6 - 0.5 * x[:, 0]).exp()), generator=generator)
    start = softened(z.long(), 2)
    return Problem(lambda: MixtureOfExperts(DirichletGate(2), GLMExperts(2, 1, Poisson())), x, y, start)


def clouds(seed: int, n_objects: int) -> Problem:
    """Return eight Gaussian clouds in four columns that overlap."""
    generator = Generator().manual_seed(seed)
    centres = 1.3 * torch.randn(8, 4, generator=generator).double()
    z = torch.randint(8, (n_objects,), generator=generator)
    y = centres[z] + torch.randn(n_objects, 4, generator=generator).double()
    return Problem(lambda: MixtureOfExperts(DirichletGate(8), GaussianExperts(8, 4)), y[:, :0], y, softened(z, 8))


PROBLEMS: dict[str, tuple[Callable[[int, int], Problem], int, int]] = {
    "overlapping lines": (overlapping_lines, 200, 20),
    "overlapping lines, N = 2,000": (overlapping_lines, 2000, 5),
    "gated lines": (gated_lines, 200, 5),
    "counts": (counts, 200, 5),
    "clouds": (clouds, 500, 4),
}


@contextmanager
def plain_em() -> Iterator[None]:
    """Fit without acceleration."""
    first = pace.FIRST
    pace.FIRST = 2**62
    try:
        yield
    finally:
        pace.FIRST = first


class Fits(NamedTuple):
    """Fits of one problem: iterations and bounds of each, and the time of all in seconds."""

    iterations: list[int]
    bounds: list[float]
    seconds: float


def fitted(problem: Problem, tolerance: float) -> FitResult:
    """Fit from the start."""
    return fit(
        problem.make(),
        problem.x,
        problem.y,
        initial_responsibilities=problem.start,
        tolerance=tolerance,
        max_iterations=5000,
        progress=False,
    )


def measured(problems: list[Problem], tolerance: float) -> Fits:
    """Fit all problems."""
    started = time.perf_counter()
    results = [fitted(problem, tolerance) for problem in problems]
    seconds = time.perf_counter() - started
    return Fits([result.n_iterations for result in results], [result.bound for result in results], seconds)


def line(name: str, tolerance: float, *, n_data_sets: int | None = None) -> str:
    """Return the figures of one problem."""
    make, n_objects, n_seeds = PROBLEMS[name]
    problems = [make(seed, n_objects) for seed in range(n_data_sets or n_seeds)]
    with plain_em():
        plain = measured(problems, tolerance)
    ours = measured(problems, tolerance)
    gained = [our - other for our, other in zip(ours.bounds, plain.bounds, strict=True)]
    n_same = sum(math.isclose(gain, 0.0, abs_tol=2.0 * tolerance * n_objects) for gain in gained)
    sums = " ".join(f"{sum(one.iterations):>8}{max(one.iterations):>7}{one.seconds:>8.2f}" for one in (plain, ours))
    return f"{name:<30}{tolerance:>9.0e}{sums}{n_same:>6} of {len(problems)}"


def main() -> None:
    """Print one line per problem and tolerance."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", RuntimeWarning)
    print(f"{'':<39}{'plain EM':>23}{'accelerated':>24}{'same':>12}")
    head = f"{'sum':>8}{'most':>7}{'s':>8}"
    print(f"{'problem':<30}{'tolerance':>9}{head} {head}{'optimum':>12}")
    for name in PROBLEMS:
        for tolerance in (1e-7, 1e-10):
            print(line(name, tolerance), flush=True)


if __name__ == "__main__":
    main()
