"""How much memory do large problems take beside their data?

Run as ``python -m tests.benchmarks.memory``; ten minutes on one core. Each case runs in a process of its own, whose
peak memory is printed less what it held once its data were made. Names as arguments choose some of the cases.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    GaussianExperts,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    ObjectDirichletGate,
    SoftmaxGate,
    TreeGate,
    fit,
    linear_response,
    to_arviz,
)
from mixpyro.experts.families import Categorical, Poisson
from mixpyro.experts.multinomial import Multinomial
from mixpyro.fitting import starts

Case = Callable[[], Callable[[], object]]

# Seconds that a case may take.
LONGEST = 900.0


def rows(n_rows: int, n_columns: int, n_groups: int = 2, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Inputs [N, D], and outputs [N] on lines of some groups."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n_rows, n_columns, generator=generator, dtype=dtype)
    slopes = torch.randn(n_groups, generator=generator, dtype=dtype)
    labels = torch.randint(n_groups, (n_rows,), generator=generator)
    return x, slopes[labels] * x[:, 0] + 3.0 * labels + 0.3 * torch.randn(n_rows, generator=generator, dtype=dtype)


def fitting(gate: Any, experts: Any, x: Tensor, y: Tensor, **options: Any) -> Callable[[], object]:
    """A few iterations of a fit."""
    mixture = MixtureOfExperts(gate, experts)
    return lambda: fit(mixture, x, y, **{"max_iterations": 2, "progress": False, **options})


def lines_of_many_columns(n_columns: int) -> Case:
    """Default restarts of lines with many columns: products of all columns, for every run and component."""

    def case() -> Callable[[], object]:
        x, y = rows(1700 if n_columns >= 800 else 2000, n_columns)
        return fitting(DirichletGate(2), LinearExperts(2, n_columns), x, y)

    return case


def softmax_of_many_components() -> Callable[[], object]:
    """Softmax weights of 50 components for 10⁵ rows."""
    x, y = rows(100_000, 2, 50)
    return fitting(SoftmaxGate(50, 2), LinearExperts(50, 2), x, y)


def bayesian_softmax_of_many_components() -> Callable[[], object]:
    """Bayesian softmax weights of 50 components for 10⁵ rows, from one start: default restarts take ten minutes."""
    x, y = rows(100_000, 2, 50)
    return fitting(BayesianSoftmaxGate(50, 2), LinearExperts(50, 2), x, y, n_restarts=1, n_candidates=1)


def tree_of_many_components() -> Callable[[], object]:
    """A tree of gates with 32 leaves for 10⁵ rows."""
    x, y = rows(100_000, 2, 32)
    return fitting(TreeGate(32, 2), LinearExperts(32, 2), x, y)


def weights_of_objects() -> Callable[[], object]:
    """A posterior of the weights of each of 10⁶ rows, with candidates."""
    x, y = rows(1_000_000, 2, 3)
    return fitting(ObjectDirichletGate(3), LinearExperts(3, 2), x, y)


def many_categories() -> Callable[[], object]:
    """Categorical experts of 50 categories with default restarts."""
    x, _ = rows(5000, 10)
    y = torch.randint(50, (5000,), generator=torch.Generator().manual_seed(1)).double()
    return fitting(DirichletGate(3), GLMExperts(3, 10, Categorical(50)), x, y)


def many_counts() -> Callable[[], object]:
    """Multinomial experts of 50 categories with default restarts."""
    x, _ = rows(5000, 10)
    torch.manual_seed(1)
    y = torch.distributions.Multinomial(20, torch.ones(50).double()).sample((5000,))
    x = torch.cat([x, y.sum(1, keepdim=True)], dim=1)
    return fitting(DirichletGate(3), GLMExperts(3, 10, Multinomial(50), exposure=True), x, y)


def rates_of_many_columns() -> Callable[[], object]:
    """Poisson experts of 200 columns with default restarts."""
    x, y = rows(5000, 200)
    return fitting(DirichletGate(3), GLMExperts(3, 200, Poisson()), x, y.exp().clamp_max(50.0).floor())


def full_covariances() -> Callable[[], object]:
    """Gaussians of 300 outputs with full covariances and default restarts."""
    y, _ = rows(3000, 300)
    return fitting(DirichletGate(3), GaussianExperts(3, 300, covariance="full"), y.new_empty(3000, 0), y)


def many_rows() -> Callable[[], object]:
    """Default restarts on 10⁶ rows in float32."""
    x, y = rows(1_000_000, 4, 3, torch.float32)
    return fitting(DirichletGate(3), LinearExperts(3, 4), x, y)


def rates_of_many_rows() -> Callable[[], object]:
    """Poisson experts and softmax weights with default restarts on 3 · 10⁵ rows."""
    x, y = rows(300_000, 4, 3)
    return fitting(SoftmaxGate(3, 4), GLMExperts(3, 4, Poisson()), x, y.exp().clamp_max(50.0).floor())


def rates_of_ten_million_rows() -> Callable[[], object]:
    """Poisson experts with two columns, from one start on 10⁷ rows in float32."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(10_000_000, 2, generator=generator)
    lines = torch.tensor([[0.0, 0.5, 0.1], [1.5, -0.4, 0.2], [2.5, 0.2, -0.3]])
    own = lines[torch.randint(3, (len(x),), generator=generator)]
    y = torch.poisson((own[:, 0] + (own[:, 1:] * x).sum(1)).exp(), generator=generator)
    return fitting(SoftmaxGate(3, 0), GLMExperts(3, 2, Poisson()), x, y, gate_x=x[:, :0], n_restarts=1)


def one_candidate() -> Callable[[], object]:
    """Ten random starts on all of 3 · 10⁵ rows, without candidates."""
    x, y = rows(300_000, 4, 5)
    options = {"starts": [starts.random_assignments], "n_candidates": 1, "n_restarts": 10}
    return fitting(DirichletGate(5), LinearExperts(5, 4), x, y, **options)


def response_of_many_parameters() -> Callable[[], object]:
    """Linear response of lines with 40 columns and four components: 3,700 coordinates."""
    x, y = rows(3000, 40, 4)
    mixture = MixtureOfExperts(DirichletGate(4), LinearExperts(4, 40))
    fit(mixture, x, y, n_restarts=1, progress=False)
    return lambda: linear_response(mixture, x, y)


def draws_of_many_rows() -> Callable[[], object]:
    """Conversion for ArviZ of 10⁴ rows with a hundred draws."""
    x, y = rows(10_000, 2, 3)
    mixture = MixtureOfExperts(DirichletGate(3), LinearExperts(3, 2))
    fit(mixture, x, y, n_restarts=1, max_iterations=20, progress=False)
    return lambda: to_arviz(mixture, x, y, n_draws=100, progress=False)


def quantiles_of_many_rows() -> Callable[[], object]:
    """Nine quantiles of 10⁵ rows under 20 components."""
    x, y = rows(100_000, 2, 20)
    mixture = MixtureOfExperts(DirichletGate(20), LinearExperts(20, 2))
    fit(mixture, x[:500], y[:500], n_restarts=1, max_iterations=3, progress=False)
    return lambda: mixture.quantile(x, torch.linspace(0.1, 0.9, 9).double())


CASES: Mapping[str, Case] = MappingProxyType(
    {
        "lines_400": lines_of_many_columns(400),
        "lines_800": lines_of_many_columns(800),
        "softmax": softmax_of_many_components,
        "bayesian_softmax": bayesian_softmax_of_many_components,
        "tree": tree_of_many_components,
        "objects": weights_of_objects,
        "categories": many_categories,
        "counts": many_counts,
        "rates_columns": rates_of_many_columns,
        "covariances": full_covariances,
        "rows": many_rows,
        "rates_rows": rates_of_many_rows,
        "rates_ten_million": rates_of_ten_million_rows,
        "one_candidate": one_candidate,
        "response": response_of_many_parameters,
        "draws": draws_of_many_rows,
        "quantiles": quantiles_of_many_rows,
    }
)


def measured(name: str) -> str:
    """Run a case here; return its peak memory beside its data, and its time."""
    torch.set_num_threads(1)
    run = CASES[name]()
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{name:18s} {(peak - before) / 1024:8.0f} MiB {time.perf_counter() - began:7.1f} s"


def main(args: argparse.Namespace) -> None:
    """Run each case in a process of its own."""
    if args.here:
        print(measured(args.here))
        return
    for name in args.names or CASES:
        command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.memory", "--here", name]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST)
            lines = (run.stdout or run.stderr).strip().splitlines() or [f"exit status {run.returncode}"]
            print(lines[-1], flush=True)
        except subprocess.TimeoutExpired:
            print(f"{name:18s} takes longer than {LONGEST:.0f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="cases; all by default")
    parser.add_argument("--here", choices=CASES, help="run one case in this process")
    main(parser.parse_args())
