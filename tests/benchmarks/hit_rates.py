"""Count the restarts that find the best known optimum, for twelve problems on real data.

Run as ``python -m tests.benchmarks.hit_rates``; about three minutes on one core. The known optima are those of
tests/data. Where a higher bound is known (see tests/fitting/test_known_answers.py), that one is used.
"""

import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro import DirichletGate, GLMExperts, LinearExperts, MixtureOfExperts, SoftmaxGate, fit
from mixpyro.experts.families import Gaussian, Poisson
from tests.conftest import read_table


class Problem(NamedTuple):
    """A mixture to fit, its data, and the best known value of the bound or log likelihood in nats."""

    name: str
    make: Callable[[], MixtureOfExperts]
    x: Tensor
    y: Tensor
    gate_x: Tensor
    known: float


def problems() -> list[Problem]:
    """Return Bayesian regressions, known by their bound, then those by maximum likelihood."""
    co2, ethanol = read_table("co2_gnp.csv", "GNP", "CO2"), read_table("ethanol.csv", "NO", "Equivalence")
    patents = read_table("patent.csv", "lgRD", "Patents")
    sales, _ = read_table("patent.csv", "RDS", "Patents")
    nothing = sales[:, :0]
    return [
        *(bayesian("co2", k, *co2, known, precision=1.0, rate=1.0) for k, known in ((2, -87.97906), (3, -89.77918))),
        *(
            bayesian("ethanol", k, *ethanol, known, precision=0.01, rate=0.01)
            for k, known in ((2, 81.03196), (3, 78.66826))
        ),
        *(
            poisson(f"patent, constant gate, K = {k}", k, *patents, nothing, v)
            for k, v in ((2, -219.637), (3, -203.533))
        ),
        poisson("patent, constant gate, K = 4", 4, *patents, nothing, -199.456),
        poisson("patent, gated, K = 3", 3, *patents, sales, -197.675),
        gaussian("co2, gated", *co2, co2[0], -66.29656),
        gaussian("co2, constant gate", *co2, co2[0][:, :0], -66.93977),
        gaussian("ethanol, gated", *ethanol, ethanol[0], 123.6206),
        gaussian("ethanol, constant gate", *ethanol, ethanol[0][:, :0], 122.0384),
    ]


def bayesian(name: str, k: int, x: Tensor, y: Tensor, known: float, *, precision: float, rate: float) -> Problem:
    """Return lines with a Normal-Gamma prior under Dirichlet(½) weights."""

    def make() -> MixtureOfExperts:
        experts = LinearExperts(k, 1, coefficient_precision=precision, noise_rate=rate)
        return MixtureOfExperts(DirichletGate(k, concentration=0.5), experts)

    return Problem(f"{name}, Bayesian, K = {k}", make, x, y, x, known)


def poisson(name: str, k: int, x: Tensor, y: Tensor, gate_x: Tensor, known: float) -> Problem:
    """Return Poisson regressions by maximum likelihood."""
    return Problem(
        name,
        lambda: MixtureOfExperts(SoftmaxGate(k, gate_x.shape[1]), GLMExperts(k, 1, Poisson())),
        x,
        y,
        gate_x,
        known,
    )


def gaussian(name: str, x: Tensor, y: Tensor, gate_x: Tensor, known: float) -> Problem:
    """Return two lines by maximum likelihood."""
    return Problem(
        name,
        lambda: MixtureOfExperts(SoftmaxGate(2, gate_x.shape[1]), GLMExperts(2, 1, Gaussian())),
        x,
        y,
        gate_x,
        known,
    )


def main() -> None:
    """Print one line per problem: the bound of a default fit, and how many of 100 restarts find the optimum."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", RuntimeWarning)
    print(f"{'problem':<32}{'known':>12}{'by default':>12}{'hits of 100':>13}{'degenerate':>12}{'seconds':>9}")
    for problem in problems():
        started = time.perf_counter()
        arguments = {"gate_x": problem.gate_x, "progress": False}
        default = fit(problem.make(), problem.x, problem.y, **arguments)  # type: ignore[arg-type]
        many = fit(problem.make(), problem.x, problem.y, n_restarts=100, seed=1, **arguments)  # type: ignore[arg-type]
        sound = [run for run in many.runs if not run.degeneracies]
        hits = sum(abs(run.bound - problem.known) < 1e-3 for run in sound)
        figures = f"{problem.known:>12.4f}{default.bound:>12.4f}{hits:>13}{len(many.runs) - len(sound):>12}"
        print(f"{problem.name:<32}{figures}{time.perf_counter() - started:>9.1f}")


if __name__ == "__main__":
    main()
