"""How much faster are quantiles than by plain bisection, and are they the same?

Run as ``python -m tests.benchmarks.quantiles``; two minutes on one core. CPU seconds of quantiles of fitted lines
and of counts, by the library and by bisection of all rows at once, and the largest relative difference between both.
"""

import argparse
import functools
import time
from collections.abc import Callable

import torch
from torch import Tensor

from mixpyro import GLMExperts, LinearExperts, MixtureOfExperts, SoftmaxGate, fit
from mixpyro.distributions.bisection import bisected
from mixpyro.experts.families import Poisson


def of_lines(n_components: int) -> MixtureOfExperts:
    """Lines with Student-t predictions."""
    generator = torch.Generator().manual_seed(n_components)
    x = torch.randn(500, 2, generator=generator).double()
    slopes = torch.randn(n_components, generator=generator).double()
    y = x[:, 0] * slopes[torch.randint(n_components, (500,), generator=generator)]
    mixture = MixtureOfExperts(SoftmaxGate(n_components, 2), LinearExperts(n_components, 2))
    fit(mixture, x, y + torch.randn(500, generator=generator), n_restarts=1, max_iterations=5, progress=False)
    return mixture


def of_counts(n_components: int) -> MixtureOfExperts:
    """Poisson counts with random coefficients."""
    generator = torch.Generator().manual_seed(n_components)
    mixture = MixtureOfExperts(SoftmaxGate(n_components, 2), GLMExperts(n_components, 2, Poisson()))
    with torch.no_grad():
        coefficients = mixture.experts.coefficients_estimate
        coefficients.copy_(1.0 + 0.7 * torch.randn(coefficients.shape, generator=generator))
    return mixture


def timed(function: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """CPU seconds of a call, and its result."""
    began = time.process_time()
    result = function()
    return time.process_time() - began, result


@torch.no_grad()
def main(args: argparse.Namespace) -> None:
    """Print a line for every mixture and number of probabilities."""
    torch.set_num_threads(1)
    x = torch.randn(args.rows, 2, generator=torch.Generator().manual_seed(0)).double()
    nine = torch.linspace(0.1, 0.9, 9).double()
    for name, make in (("lines", of_lines), ("counts", of_counts)):
        for n_components in (1, 3, 20):
            mixture = make(n_components)
            predictive = mixture.predictive(x)
            weights, components = predictive.mixture_distribution.probs, predictive.component_distribution
            mixture.quantile(x[:10], nine)  # The first call imports SciPy.
            for wanted in (nine[4:5], nine):
                own, ours = timed(functools.partial(mixture.quantile, x, wanted))
                plain, exact = timed(functools.partial(bisected, weights, components, wanted))
                difference = ((ours - exact).abs() / exact.abs().clamp_min(1e-300)).nan_to_num(0.0).max()
                print(
                    f"{name:6s} K = {n_components:2d}, {len(wanted)} probabilities: {own:6.2f} s, "
                    f"bisection {plain:6.2f} s, {plain / own:5.1f} times, differ by {float(difference):.1e}",
                    flush=True,
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000, help="rows to predict")
    main(parser.parse_args())
