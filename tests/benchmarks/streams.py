"""A pass over a stream against an iteration of a fit over the same rows: seconds of both, and their ratio.

    python -m tests.benchmarks.streams           # a million rows in batches of 10,000 and 100,000
    python -m tests.benchmarks.streams --tiny    # to see that it runs

One thread, its processor time. The aim is a ratio of at most 1.3.
"""

import argparse
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    GaussianExperts,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    RelevanceLinearExperts,
    SoftmaxGate,
    StickBreakingGate,
    StreamingFit,
)
from mixpyro.experts.families import Binomial, Gaussian, Poisson
from mixpyro.fitting import em
from mixpyro.fitting.gradient.m_steps import GradientMSteps
from mixpyro.fitting.pieces import in_pieces
from mixpyro.fitting.starts import N_GRADIENT_STEPS
from mixpyro.fitting.table import checked_table
from mixpyro.numerics import nested

D, K = 10, 8
CASES: dict[str, Callable[[], MixtureOfExperts]] = {
    "linear": lambda: MixtureOfExperts(DirichletGate(K), LinearExperts(K, D)),
    "Gaussian": lambda: MixtureOfExperts(DirichletGate(K), GaussianExperts(K, D)),
    "Poisson": lambda: MixtureOfExperts(DirichletGate(K), GLMExperts(K, D, Poisson())),
    "binomial": lambda: MixtureOfExperts(DirichletGate(K), GLMExperts(K, D, Binomial(), prior_scale=2.0)),
    "linear, by Newton": lambda: MixtureOfExperts(DirichletGate(K), GLMExperts(K, D, Gaussian())),
    "linear, relevance": lambda: MixtureOfExperts(DirichletGate(K), RelevanceLinearExperts(K, D)),
    "linear, sticks": lambda: MixtureOfExperts(StickBreakingGate(K), LinearExperts(K, D)),
    "linear, softmax": lambda: MixtureOfExperts(SoftmaxGate(K, D), LinearExperts(K, D)),
    "linear, Bayesian softmax": lambda: MixtureOfExperts(BayesianSoftmaxGate(K, D), LinearExperts(K, D)),
}
# Cases that take long: their rows, of a million.
FEWER = {"linear, softmax": 0.3, "linear, Bayesian softmax": 0.1}


def rows_of(name: str, n_rows: int) -> tuple[Tensor, Tensor]:
    """Draw x [N, D] and y of a case: lines, clouds or counts."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n_rows, D, generator=generator, dtype=torch.float64)
    slopes = 0.3 * torch.randn(K, D, generator=generator, dtype=torch.float64)
    numbers = torch.randint(K, (n_rows,), generator=generator)
    eta = (x * slopes[numbers]).sum(-1, keepdim=True)
    if name.startswith("linear"):
        return x, 5.0 * eta + 0.3 * torch.randn(n_rows, 1, generator=generator, dtype=torch.float64)
    if name == "Gaussian":
        return x[:, :0], x + 10.0 * slopes[numbers]
    if name == "binomial":
        return x, torch.bernoulli(eta.sigmoid(), generator=generator)
    return x, torch.poisson(eta.exp(), generator=generator)


def seconds_of_iteration(mixture: MixtureOfExperts, x: Tensor, y: Tensor, n_times: int) -> float:
    """Return the least processor time of an E-step on all rows and the update that follows."""
    table = in_pieces(checked_table(mixture, x, y, None, None))
    mixture.gate.centre(table.gate_x)
    mixture.experts.centre(table.x, table.y, None)
    table = table.with_columns(mixture.experts)
    state, m_steps = nested.stack([mixture.state()]), GradientMSteps(n_steps=N_GRADIENT_STEPS)
    times = []
    for _ in range(n_times):
        begin = time.process_time()
        step = em.e_step(mixture, state, table, keep=em.reads_rows(mixture))
        em.update(mixture, state, step, table, m_steps)
        times.append(time.process_time() - begin)
    return min(times)


def seconds_of_pass(mixture: MixtureOfExperts, x: Tensor, y: Tensor, batch_size: int, n_times: int) -> float:
    """Return the least processor time of a pass over all rows in batches.

    The first pass may look for components that the start lacks, which takes as long however many rows follow.
    """
    stream = StreamingFit(mixture, n_restarts=0)
    times = []
    for _ in range(n_times):
        begin = time.process_time()
        for start in range(0, len(x), batch_size):
            stream.partial_fit(x[start : start + batch_size], y[start : start + batch_size])
        times.append(time.process_time() - begin)
    return min(times)


@torch.no_grad()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tiny", action="store_true", help="few rows, to see that it runs")
    parser.add_argument("names", nargs="*", help=f"cases, of {', '.join(CASES)}; all by default")
    given = parser.parse_args()
    tiny = given.tiny
    torch.set_num_threads(1)
    n_rows, sizes, n_times = (4000, (500, 2000), 1) if tiny else (1_000_000, (10_000, 100_000), 2)
    print(
        "iteration: processor seconds of an E-step and an update of all rows; pass: of all rows in batches;\n"
        "ratio: pass / iteration, at most 1.3 is wanted"
        + (". So few rows that the ratios mean nothing: this only shows that it runs." if tiny else "")
    )
    print("case                       batch  iteration s   pass s   ratio")
    for name in given.names or CASES:
        make = CASES[name]
        x, y = rows_of(name, round(n_rows * FEWER.get(name, 1.0)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            started = StreamingFit(make(), n_restarts=1, progress=False).partial_fit(x[:2000], y[:2000]).mixture
        for size in sizes:
            of_pass = seconds_of_pass(_copy(started, make), x, y, size, n_times)
            of_iteration = seconds_of_iteration(_copy(started, make), x, y, n_times)
            print(f"{name:24} {size:7,} {of_iteration:12.3f} {of_pass:8.3f} {of_pass / of_iteration:7.2f}", flush=True)


def _copy(mixture: MixtureOfExperts, make: Callable[[], MixtureOfExperts]) -> MixtureOfExperts:
    """Return a new mixture with the state of another."""
    other = make()
    other.load_state_dict(mixture.state_dict())
    return other


if __name__ == "__main__":
    main()
