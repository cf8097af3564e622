"""Time an iteration of a Bayesian Gaussian mixture, ours and scikit-learn's, on the same data and prior, float64.

Both run from random assignments for a few iterations, then for more. The difference, per iteration, excludes what
happens once. Clusters overlap, so that neither has converged by then. The least time of the repeats counts.

Limit of the machine at P = 10, K = 8 with a full covariance, for one row: 2 · K P (P + 1) = 1760 operations whiten,
2 · K (P + 1)² = 1936 sum. At 20 · 10⁹ operations a second of one core this takes 185 ns. Diagonal and spherical
covariances need a tenth of that; they spend their time in the exponential, in sums over components and in transposing.
"""

import time
import warnings
from collections.abc import Callable, Iterator

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture
from torch import Generator, Tensor

from mixpyro import DirichletGate, GaussianExperts, MixtureOfExperts, fit
from tests.benchmarks.speed.harness import Row, Sizes

THEIR_NAMES = {"full": "full", "diagonal": "diag", "spherical": "spherical"}
SIZES = Sizes(100_000, 10, 8)
TINY = Sizes(400, 10, 8)
FEW = 3


def rows(sizes: Sizes) -> Iterator[Row]:
    """Yield one row per structure of the covariance; ``n_features`` is the number of outputs P."""
    n_iterations, n_repeats = (2, 1) if sizes.tiny else (10, 4)
    y, k = overlapping(*sizes[:3]), sizes.n_components
    for covariance in THEIR_NAMES:
        seconds = seconds_an_iteration((ours, theirs), (y, k, covariance), n_iterations, n_repeats)
        yield Row(f"Gaussian mixture, {covariance}", str(sizes), seconds[0], "scikit-learn", seconds[1], ">= 2")


def overlapping(n_objects: int, n_outputs: int, n_components: int) -> Tensor:
    """Draw clusters of unit width about centres of unit spread: y [N, P], float64."""
    generator = Generator().manual_seed(0)
    centres = torch.randn(n_components, n_outputs, generator=generator, dtype=torch.float64)
    noise = torch.randn(n_objects, n_outputs, generator=generator, dtype=torch.float64)
    return centres[torch.arange(n_objects) % n_components] + noise


def ours(y: Tensor, n_components: int, covariance: str, n_iterations: int) -> int:
    """Fit by mixpyro; return the number of iterations."""
    start = torch.rand(len(y), n_components, generator=Generator().manual_seed(1), dtype=y.dtype)
    experts = GaussianExperts(n_components, y.shape[1], covariance=covariance, scale=1.0)
    mixture = MixtureOfExperts(DirichletGate(n_components), experts)
    start /= start.sum(-1, keepdim=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        options = {"max_iterations": n_iterations, "tolerance": 0.0, "progress": False}
        return fit(mixture, y, y, initial_responsibilities=start, **options).n_iterations  # type: ignore[arg-type]


def theirs(y: Tensor, n_components: int, covariance: str, n_iterations: int) -> int:
    """Fit by scikit-learn; return the number of iterations."""
    mixture = BayesianGaussianMixture(
        n_components=n_components,
        covariance_type=THEIR_NAMES[covariance],
        weight_concentration_prior_type="dirichlet_distribution",
        init_params="random",
        random_state=0,
        tol=0.0,
        max_iter=n_iterations,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return int(mixture.fit(y.numpy()).n_iter_)


def seconds_an_iteration(
    runs: tuple[Callable[..., int], ...], arguments: tuple[Tensor, int, str], n_iterations: int, n_repeats: int
) -> list[float]:
    """Return the seconds of each further iteration: least time of long runs minus least time of short runs."""
    least = {(run, wanted): float("inf") for run in runs for wanted in (FEW, FEW + n_iterations)}
    for _ in range(n_repeats):
        for run, wanted in least:
            started = time.perf_counter()
            done = run(*arguments, wanted)
            least[run, wanted] = min(least[run, wanted], time.perf_counter() - started)
            if done != wanted:
                raise RuntimeError(f"`sizes` must have more rows: {run.__name__} converged after {done} iterations.")
    # Noise can make the difference negative at tiny sizes.
    return [max(1e-9, (least[run, FEW + n_iterations] - least[run, FEW]) / n_iterations) for run in runs]
