"""Seconds an iteration of a Bayesian Gaussian mixture, ours and scikit-learn's, on the same data and prior, float64.

Run as ``python -m tests.benchmarks.gaussian_mixture``; ``--help`` names the sizes. Both run from random assignments for
a few iterations and for some more; the difference, per iteration, is free of what either does once. Clusters overlap,
so that neither has converged by then. Of the repeats the least counts.
"""

import argparse
import time
import warnings
from collections.abc import Callable

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture
from torch import Generator, Tensor

from mixpyro import DirichletGate, GaussianExperts, MixtureOfExperts, fit

THEIR_NAMES = {"full": "full", "diagonal": "diag", "spherical": "spherical"}
FEW = 3


def overlapping(n_objects: int, n_outputs: int, n_components: int) -> Tensor:
    """Clusters of unit width about centres of unit spread [N, P], float64."""
    generator = Generator().manual_seed(0)
    centres = torch.randn(n_components, n_outputs, generator=generator, dtype=torch.float64)
    noise = torch.randn(n_objects, n_outputs, generator=generator, dtype=torch.float64)
    return centres[torch.arange(n_objects) % n_components] + noise


def ours(y: Tensor, n_components: int, covariance: str, n_iterations: int) -> int:
    """Fit for so many iterations; returns how many there were."""
    start = torch.rand(len(y), n_components, generator=Generator().manual_seed(1), dtype=y.dtype)
    experts = GaussianExperts(n_components, y.shape[1], covariance=covariance, scale=1.0)
    mixture = MixtureOfExperts(DirichletGate(n_components), experts)
    start /= start.sum(-1, keepdim=True)
    options = {"max_iterations": n_iterations, "tolerance": 0.0, "progress": False}
    return fit(mixture, y, y, initial_responsibilities=start, **options).n_iterations  # type: ignore[arg-type]


def theirs(y: Tensor, n_components: int, covariance: str, n_iterations: int) -> int:
    """The same by scikit-learn."""
    mixture = BayesianGaussianMixture(
        n_components=n_components,
        covariance_type=THEIR_NAMES[covariance],
        weight_concentration_prior_type="dirichlet_distribution",
        init_params="random",
        random_state=0,
        tol=0.0,
        max_iter=n_iterations,
    )
    return int(mixture.fit(y.numpy()).n_iter_)


def seconds_an_iteration(
    run: Callable[..., int], arguments: tuple[Tensor, int, str], n_iterations: int, n_repeats: int
) -> float:
    """What ``n_iterations`` more cost, each: the least of some runs less the least of some short ones."""
    least = {FEW: float("inf"), FEW + n_iterations: float("inf")}
    for _ in range(n_repeats):
        for wanted in least:
            started = time.perf_counter()
            done = run(*arguments, wanted)
            least[wanted] = min(least[wanted], time.perf_counter() - started)
            if done != wanted:
                raise RuntimeError(f"`--iterations` must end before convergence; it came after {done}.")
    return (least[FEW + n_iterations] - least[FEW]) / n_iterations


def main() -> None:
    """Print seconds an iteration and their ratio for each covariance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--outputs", type=int, default=10)
    parser.add_argument("--components", type=int, default=8)
    parser.add_argument("--iterations", type=int, default=15, help="more than the first three")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--covariance", nargs="+", choices=list(THEIR_NAMES), default=list(THEIR_NAMES))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.simplefilter("ignore", RuntimeWarning)
    y = overlapping(arguments.objects, arguments.outputs, arguments.components)
    print(f"N = {len(y)}, P = {y.shape[1]}, K = {arguments.components}, {torch.get_num_threads()} threads of PyTorch")
    print(f"{'covariance':<12}{'ours':>10}{'theirs':>10}{'ratio':>8}   seconds an iteration")
    for covariance in arguments.covariance:
        seconds = [
            seconds_an_iteration(run, (y, arguments.components, covariance), arguments.iterations, arguments.repeats)
            for run in (ours, theirs)
        ]
        print(f"{covariance:<12}{seconds[0]:>10.4f}{seconds[1]:>10.4f}{seconds[1] / seconds[0]:>8.1f}")


if __name__ == "__main__":
    main()
