"""When does Newton's method without the matrix of second derivatives pay, and what memory does it take?

Run as ``python -m tests.benchmarks.newton``; a minute on one core. M-steps of a softmax gate and of categorical experts
are timed from zero with the dense matrix and by conjugate gradients, beside SciPy's L-BFGS-B on the same gradient. The
M-step of a large gate and its check for separation run in a process of their own, whose peak memory is printed.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from mixpyro import SoftmaxGate
from mixpyro.experts.families import Categorical
from mixpyro.experts.weighted_likelihood import WeightedLikelihood
from mixpyro.numerics.linear_predictors import LinearPredictors
from mixpyro.numerics.newton import maximised
from mixpyro.numerics.soft_labels import SoftLabels


def problem(n_objects: int, n_features: int, n_components: int) -> tuple[Tensor, Tensor]:
    """Inputs [N, D], and responsibilities [N, K] that depend on them and overlap."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n_objects, n_features, generator=generator, dtype=torch.float64)
    slopes = 2.0 * torch.randn(n_features, n_components, generator=generator, dtype=torch.float64) / n_features**0.5
    weights = (x @ slopes).softmax(-1)
    labels = torch.multinomial(weights, 1, generator=generator)[:, 0]
    return x, 0.7 * torch.nn.functional.one_hot(labels, n_components).double() + 0.3 * weights


def gate_functions(n_objects: int, n_features: int, n_components: int) -> LinearPredictors:
    """What a softmax gate maximises."""
    x, r = problem(n_objects, n_features, n_components)
    return LinearPredictors(x, SoftLabels(r), n_predictors=n_components - 1)


def expert_functions(n_objects: int, n_features: int, n_components: int, n_categories: int) -> LinearPredictors:
    """What categorical experts maximise."""
    x, r = problem(n_objects, n_features, n_components)
    y = problem(n_objects, n_features, n_categories)[1].argmax(-1, keepdim=True).double()
    family, one = Categorical(n_categories), x.new_ones(1, 1, 1)
    likelihood = WeightedLikelihood(family, y, one, r, x.new_ones(n_components, 1))
    return LinearPredictors(x, likelihood, n_predictors=n_categories - 1)


def by_lbfgs(functions: LinearPredictors, start: Tensor) -> Tensor:
    """Coefficients at the maximum of the sum of the functions, by SciPy's L-BFGS-B."""

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        coefficients = torch.from_numpy(flat).reshape(start.shape)
        gradient = functions.expansion(coefficients).gradient
        return -float(functions.values(coefficients).sum()), -gradient.numpy().ravel()

    options = {"maxiter": 2000, "maxcor": 20, "ftol": 1e-13, "gtol": 1e-6}
    found = minimize(objective, start.numpy().ravel(), jac=True, method="L-BFGS-B", options=options)
    return torch.from_numpy(found.x).reshape(start.shape)


def compare(name: str, functions: LinearPredictors, n_functions: int) -> None:
    """Print seconds and the value reached for each method."""
    start = torch.zeros(n_functions, functions.n_predictors * functions.columns.shape[1], dtype=torch.float64)
    methods: dict[str, Callable[[], Tensor]] = {
        "dense": lambda: maximised(functions, start, n_steps=25, most_dense=start.shape[1]),
        "conjugate gradients": lambda: maximised(functions, start, n_steps=25, most_dense=0),
        "L-BFGS-B": lambda: by_lbfgs(functions, start),
    }
    for method, call in methods.items():
        began = time.perf_counter()
        found = call()
        seconds = time.perf_counter() - began
        print(f"{name:<46}{method:<22}{seconds:>8.2f} s{float(functions.values(found).sum()):>18.8f}", flush=True)


def measure_memory(n_objects: int, n_features: int, n_components: int) -> None:
    """Print seconds of a large gate's M-step and check, and MiB that both add to what the data take."""
    x, r = problem(n_objects, n_features, n_components)
    gate = SoftmaxGate(n_components, n_features)
    before, began = _peak(), time.perf_counter()
    gate.maximise(x, r)
    maximised_at = time.perf_counter()
    gate.separations(x, r)
    seconds = maximised_at - began, time.perf_counter() - maximised_at
    print(
        f"K={n_components}, D={n_features}, N={n_objects}: M-step {seconds[0]:.1f} s, check {seconds[1]:.1f} s, ",
        end="",
    )
    print(f"{_peak() - before:.0f} MiB")


def _peak() -> float:
    """The most memory that this process has held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the memory, then the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", nargs=3, type=int, metavar=("N", "D", "K"), help="measure this gate alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        measure_memory(*options.memory)
        return
    # First, for the peak memory of a process includes what its parent held when it began.
    command = [sys.executable, "-m", "tests.benchmarks.newton", "--memory", "2000", "500", "50"]
    subprocess.run(command, check=True)
    compare("SoftmaxGate, K=20, D=120, N=1500", gate_functions(1500, 120, 20), 1)
    compare("GLMExperts, Categorical(10), K=3, D=60, N=3000", expert_functions(3000, 60, 3, 10), 3)


if __name__ == "__main__":
    main()
