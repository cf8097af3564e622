"""Measure coverage and widths of 90 % intervals: mean field, linear response and the exact posterior side by side.

Run as ``python -m tests.benchmarks.intervals``; four minutes on two cores. The design is that of
:mod:`tests.benchmarks.coverage`; weights are on the scale of log ratios, and the exact posterior is sampled by Gibbs.
Then the time of linear response beside an iteration of EM, with all threads.
"""

import time
import warnings
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from mixpyro import DirichletGate, FitResult, LinearExperts, MixtureOfExperts, fit, linear_response
from tests.benchmarks.coverage import SETTINGS, WEIGHTS, Setting, simulate
from tests.intervals.gibbs import gibbs

# Half the width of a Normal interval of 90 %, in standard deviations.
HALF_WIDTH = 1.6448536269514722
# Quantities of a fit: the log ratio of the weights, then four coefficients.
N_QUANTITIES = 5


class Intervals(NamedTuple):
    """Lower and upper ends of the intervals of one method [5]."""

    low: Tensor
    high: Tensor


def intervals(setting: Setting, seed: int, n_draws: int) -> tuple[dict[str, Intervals], Tensor]:
    """Return the intervals of every method for one data set, and the truth [5]."""
    x, y, z, truth = simulate(setting, seed)
    start = nn.functional.one_hot(z, 2).double() + 0.05
    result = fit(
        MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)), x, y, initial_responsibilities=start, progress=False
    )
    response = linear_response(result, x, y)
    centre = response.estimates[:N_QUANTITIES]
    found = {}
    for name, covariance in (("mean field", response.mean_field), ("linear response", response.covariance)):
        half = HALF_WIDTH * covariance.diagonal()[:N_QUANTITIES].sqrt()
        found[name] = Intervals(centre - half, centre + half)
    draws = exact_draws(result, x, y, z, n_draws, seed)
    found["exact (Gibbs)"] = Intervals(*draws.quantile(torch.tensor([0.05, 0.95]).double(), dim=0))
    return found, torch.cat([(WEIGHTS[1] / WEIGHTS[0]).log().unsqueeze(0), truth.flatten()])


def exact_draws(result: FitResult, x: Tensor, y: Tensor, z: Tensor, n_draws: int, seed: int) -> Tensor:
    """Return draws [S, 5] from the exact posterior."""
    design = torch.cat([torch.ones_like(x), x], dim=1)
    prior = result.mixture.experts.prior_from_zero
    draws = gibbs(design, y[:, 0], prior, result.mixture.gate.prior.concentration, z, n_draws=n_draws, seed=seed)
    return torch.cat([draws.log_weights[:, 1:] - draws.log_weights[:, :1], draws.coefficients.flatten(1)], dim=1)


def coverage(setting: Setting, seconds: float, *, most: int = 200, n_draws: int = 1000) -> list[str]:
    """Return a line for each method: coverage in per cent, and width relative to the exact posterior's."""
    found: list[tuple[dict[str, Intervals], Tensor]] = []
    until = time.perf_counter() + seconds
    while len(found) < most and (not found or time.perf_counter() < until):
        found.append(intervals(setting, len(found), n_draws))
    lines = []
    for name in found[0][0]:
        inside = torch.stack([(own[name].low <= truth) & (truth <= own[name].high) for own, truth in found]).double()
        ratios = torch.stack([_width(own[name]) / _width(own["exact (Gibbs)"]) for own, _ in found])
        weights, coefficients = 100 * inside[:, 0].mean(), 100 * inside[:, 1:].mean()
        low, middle, high = ratios.flatten().quantile(torch.tensor([0.1, 0.5, 0.9]).double()).tolist()
        lines.append(
            f"{setting.name:<12}{name:<17}{weights:>8.1f}{coefficients:>14.1f}{middle:>13.2f}"
            f"{low:>9.2f} to {high:.2f}{len(found):>9}"
        )
    return lines


def _width(own: Intervals) -> Tensor:
    """Return the widths [5]."""
    return own.high - own.low


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


def main(seconds: float = 150.0) -> None:
    """Print coverage and widths in each setting, then the cost.

    Args:
        seconds: for all settings together; fewer data sets where it is short.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", RuntimeWarning)
    print("of 100 intervals of 90 % cover the truth; widths relative to the exact posterior's, median and 10 to 90 %:")
    print(f"{'setting':<12}{'':<17}{'weights':>8}{'coefficients':>14}{'median width':>13}{'10 to 90 %':>16}{'data':>6}")
    for setting in SETTINGS:
        print("\n".join(coverage(setting, seconds / len(SETTINGS))), flush=True)
    torch.set_num_threads(n_threads)
    print(cost(), flush=True)
    print(cost(1_000_000, n_times=1))


if __name__ == "__main__":
    main()
