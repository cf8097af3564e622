"""Measure how long linear response takes after a fit, beside an iteration of EM.

Run as ``python -m tests.benchmarks.intervals``. :mod:`tests.benchmarks.coverage` measures how good the intervals are.
"""

import time

import torch
from torch import Generator, nn

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit, linear_response


def cost(n_objects: int = 100_000, n_features: int = 10, n_components: int = 8, n_times: int = 3) -> str:
    """Return how long linear response takes after a fit, beside an iteration of EM; the least of several times each."""
    generator = Generator().manual_seed(0)
    x = torch.randn(n_objects, n_features, generator=generator, dtype=torch.float64)
    z = torch.randint(n_components, (n_objects,), generator=generator)
    lines = torch.randn(n_components, 1 + n_features, generator=generator, dtype=torch.float64)
    noise = torch.randn(n_objects, generator=generator, dtype=torch.float64)
    y = lines[z, 0] + (lines[z, 1:] * x).sum(1) + noise
    start = nn.functional.one_hot(z, n_components).double() + 0.05
    iterations, responses = [], []
    for _ in range(n_times):
        mixture = MixtureOfExperts(DirichletGate(n_components), LinearExperts(n_components, n_features))
        begun = time.perf_counter()
        result = fit(mixture, x, y, initial_responsibilities=start, progress=False)
        iterations.append((time.perf_counter() - begun) / result.n_iterations)
        begun = time.perf_counter()
        response = linear_response(result, x, y)
        responses.append(time.perf_counter() - begun)
    iteration, seconds = min(iterations), min(responses)
    return (
        f"N={n_objects:,}, d={n_features}, K={n_components}, {torch.get_num_threads()} threads: linear response "
        f"{seconds:.2f} s, an iteration of EM {iteration:.3f} s, ratio {seconds / iteration:.1f}; missing information "
        f"{response.missing_information:.3f}"
    )


def main() -> None:
    """Print the cost for a hundred thousand rows and for a million."""
    print(cost(), flush=True)
    print(cost(1_000_000, n_times=1))


if __name__ == "__main__":
    main()
