"""Count the steps to the best bound with exact updates of the gate, and with Adam on its concentration.

Run as ``python -m tests.benchmarks.conjugate_svi``; less than a minute on one core. The program is that of
tests/pyro_programs.py. Everything but the gate is the same on both sides. The plain guide samples the weights from a
Dirichlet whose concentration is a parameter. Its learning rate decays more slowly, because it needs more steps. Its
bound is computed exactly too.
"""

import time
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, TraceEnum_ELBO
from pyro.optim import ClippedAdam, PyroOptim
from torch import Tensor, nn
from torch.distributions import constraints

from mixpyro import ConjugateSVI, DirichletGate, LinearExperts, MixtureOfExperts, fit
from tests.conftest import read_table
from tests.problems import lines, responsibilities
from tests.pyro_programs import HandWrittenLines

MOST_STEPS = 2000

# Norm beyond which gradients are clipped. At the default of 10 the noisy gradients of a sampled Dirichlet average to
# zero, and plain Adam would not move.
UNCLIPPED = {"clip_norm": 1e12}


class Plain:
    """Train the concentration of the guide's Dirichlet by Adam, as a user without ConjugateSVI would."""

    def __init__(self, program: HandWrittenLines, optim: PyroOptim) -> None:
        self.program, self.gate = program, program.gate
        self.start = self.gate.posterior_concentration.clone()
        self.svi = SVI(program.model, self.guide, optim, TraceEnum_ELBO(max_plate_nesting=1))
        self.exact = ConjugateSVI(
            program.model, program.guide, optim, TraceEnum_ELBO(max_plate_nesting=1), gates=self.gate
        )

    def concentration(self) -> Tensor:
        """Return the concentration of the guide's Dirichlet."""
        return pyro.param("concentration", lambda: self.start, constraint=constraints.positive)

    def guide(self, rows: Tensor | None = None) -> None:
        """Sample the weights from the Dirichlet that Adam trains."""
        pyro.sample("gate.weights", dist.Dirichlet(self.concentration()))

    def step(self, rows: Tensor | None = None) -> None:
        """Take one step of SVI."""
        self.svi.step(rows)

    def evaluate_loss(self) -> float:
        """Return minus the exact bound at the current concentration."""
        self.gate.posterior_concentration = self.concentration().detach().clone()
        return self.exact.evaluate_loss()


def conjugate(program: HandWrittenLines, optim: PyroOptim) -> ConjugateSVI:
    """Return an SVI with exact updates of the gate."""
    return ConjugateSVI(program.model, program.guide, optim, TraceEnum_ELBO(max_plate_nesting=1), gates=program.gate)


METHODS: dict[str, Callable[[HandWrittenLines, PyroOptim], Any]] = {"conjugate": conjugate, "plain Adam": Plain}


def full_batch(name: str, columns: tuple[str, str, str], prior: dict[str, float], rate: float) -> None:
    """Print the steps until the bound is within 1e-6 nats an object of the best, and the gap after 150 steps."""
    x, y = read_table(*columns)
    experts = LinearExperts(2, 1, coefficient_precision=prior["precision"], noise_rate=prior["rate"])
    best = fit(MixtureOfExperts(DirichletGate(2, concentration=0.5), experts), x, y, tolerance=1e-12, progress=False)
    start = 0.7 * best.responsibilities + 0.3 * responsibilities(len(x), 2)
    for method, make in METHODS.items():
        pyro.clear_param_store()
        torch.manual_seed(0)
        gate = DirichletGate(2, concentration=0.5)
        gate.update(gate.statistics(x, start))
        program = HandWrittenLines(gate, x, y, start, shape=1.0, **prior)
        svi = make(program, ClippedAdam({"lr": rate, "lrd": 0.97 if method == "conjugate" else 0.997, **UNCLIPPED}))
        started, reached, short = time.perf_counter(), None, {}
        for step in range(1, MOST_STEPS + 1):
            svi.step()
            if step % 10 == 0:
                short[step] = best.bound + svi.evaluate_loss()
                if short[step] < 1e-6 * len(x):
                    reached = step
                    break
        seconds = time.perf_counter() - started
        at_150 = short.get(150, short[max(short)])
        steps = f"{reached}" if reached else f"> {MOST_STEPS}"
        print(
            f"{name:<12}{method:<12}{best.bound:>12.5f}{at_150:>14.2e}{short[max(short)]:>14.2e}{steps:>10}{seconds:>9.1f}"
        )


def minibatches(n_objects: int = 100_000, batch_size: int = 1000, n_passes: int = 5) -> None:
    """Print the bounds that both methods reach in minibatches, next to the bound of the full data."""
    x, y, z = lines(n_objects, 2)
    start = nn.functional.one_hot(z, 2).double() * 0.6 + 0.2
    result = fit(
        MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)), x, y, initial_responsibilities=start, progress=False
    )
    for method, make in METHODS.items():
        pyro.clear_param_store()
        torch.manual_seed(0)
        program = HandWrittenLines(DirichletGate(2), x, y, start, precision=0.01, shape=1.0, rate=0.01)
        svi = make(program, ClippedAdam({"lr": 0.05, "lrd": 0.99 if method == "conjugate" else 0.997, **UNCLIPPED}))
        started = time.perf_counter()
        for _ in range(n_passes):
            for rows in torch.randperm(n_objects).split(batch_size):
                svi.step(rows)
        seconds = time.perf_counter() - started
        bound = -svi.evaluate_loss()
        weights = program.gate.posterior_concentration
        print(
            f"{method:<12}{result.bound:>14.2f}{bound:>14.2f}{abs(bound / result.bound - 1.0):>12.5%}"
            f"{float(weights[0] / weights.sum()):>10.4f}{float(weights.sum()):>12.0f}{seconds:>9.1f}"
        )


def main() -> None:
    """Print the tables of full-batch and minibatch training."""
    torch.set_num_threads(1)
    print(
        f"{'data':<12}{'gate':<12}{'best bound':>12}{'short at 150':>14}{'short at end':>14}{'steps':>10}{'seconds':>9}"
    )
    full_batch("ethanol", ("ethanol.csv", "NO", "Equivalence"), {"precision": 0.01, "rate": 0.01}, 0.2)
    full_batch("co2", ("co2_gnp.csv", "GNP", "CO2"), {"precision": 1.0, "rate": 1.0}, 0.2)
    print("\n100,000 objects in batches of 1,000, five passes; true weight of the first line a half")
    print(
        f"{'gate':<12}{'full data':>14}{'minibatches':>14}{'relative':>12}{'weight':>10}{'sum of q':>12}{'seconds':>9}"
    )
    minibatches()


if __name__ == "__main__":
    main()
