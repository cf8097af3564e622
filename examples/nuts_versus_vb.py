"""How far is a variational posterior from the exact one, and does it matter which gate?

Question: two lines explain the ethanol data (see ``quickstart.py``). Variational inference gives their coefficients and
weights in a second. NUTS, with the assignments summed out, samples the exact posterior of the same Pyro model. Do the
two agree with a global gate, and with a gate that has weights for each run of the engine?

Data: 88 runs of a single-cylinder engine on ethanol, ``data/ethanol.csv``.

Expected answer: yes for the global gate and for the marginal per-object gate, whose means are within 0.2 posterior
standard deviations of the exact ones. Their standard deviations are too small, 0.7 to 0.9 of the exact ones, because
mean field takes the assignments as independent of the lines. The mean field of the per-object gate reinforces itself
(see its docstring): its slopes are off by half a standard deviation and more. A thousand steps of NUTS take a minute or
two.

Label switching: two lines can be swapped in every draw. Each draw is sorted by slope, the rising line first.

Source of the data: Brinkman (1981), SAE Transactions 90. NUTS: Hoffman, Gelman (2014).
"""

import argparse
import csv
import time
from pathlib import Path
from typing import NamedTuple

import pyro
import torch
from pyro.distributions import Dirichlet
from pyro.infer import MCMC, NUTS
from pyro.infer.autoguide import init_to_value
from torch import Tensor

from mixpyro import (
    DirichletGate,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    ObjectDirichletGate,
    fit,
)
from mixpyro.gates import Gate

HERE = Path(__file__).parent
NAMES = ("rising: intercept", "rising: slope", "falling: intercept", "falling: slope", "weight of rising")


class Posterior(NamedTuple):
    """Means and standard deviations of the quantities in ``NAMES``."""

    mean: Tensor
    deviation: Tensor


def main(args: argparse.Namespace) -> None:
    """Fit, sample and print one table per gate."""
    pyro.set_rng_seed(args.seed)
    x, y = read_data(HERE / "data" / "ethanol.csv")
    compare("global gate", DirichletGate(2), DirichletGate(2), x, y, args)
    compare("per-object gate, mean field", ObjectDirichletGate(2), MarginalObjectDirichletGate(2), x, y, args)
    compare("per-object gate, marginal", MarginalObjectDirichletGate(2), MarginalObjectDirichletGate(2), x, y, args)


def read_data(path: Path) -> tuple[Tensor, Tensor]:
    """Return nitric oxide [N, 1] and equivalence ratio [N, 1]."""
    with path.open() as file:
        rows = [(float(row["NO"]), float(row["Equivalence"])) for row in csv.DictReader(file)]
    x, y = torch.tensor(rows, dtype=torch.float64).split(1, dim=1)
    return x, y


def compare(title: str, gate: Gate, exact: Gate, x: Tensor, y: Tensor, args: argparse.Namespace) -> None:
    """Print both posteriors; NUTS samples with ``exact``, a gate that gives the lines the same posterior."""
    mixture = MixtureOfExperts(gate, LinearExperts(2, n_features=1))
    result = fit(mixture, x, y, n_restarts=args.restarts)
    variational = of_the_fit(mixture)
    other = MixtureOfExperts(exact, LinearExperts(2, n_features=1))
    started = time.perf_counter()
    coefficients, weights, n_divergent = draws_of_nuts(other, mixture, x, y, args)
    nuts = summary(coefficients, weights)
    print(f"\n{title}: {result}")
    print(f"NUTS: {args.samples} draws in {time.perf_counter() - started:.0f} s, {n_divergent} divergent")
    print(f"{'component':<20}{'mean: VB':>10}{'NUTS':>10}{'difference':>12}{'sd: VB':>10}{'NUTS':>10}{'ratio':>8}")
    for i, name in enumerate(NAMES):
        if nuts.deviation[i] > 0:
            print_row(name, *(float(part[i]) for posterior in (variational, nuts) for part in posterior))


def print_row(name: str, mean: float, deviation: float, exact_mean: float, exact_deviation: float) -> None:
    """Print one quantity; the difference of means is in units of the exact standard deviation."""
    difference, ratio = (mean - exact_mean) / exact_deviation, deviation / exact_deviation
    row = f"{mean:>10.4f}{exact_mean:>10.4f}{difference:>12.2f}{deviation:>10.4f}{exact_deviation:>10.4f}{ratio:>8.2f}"
    print(f"{name:<20}{row}")


def of_the_fit(mixture: MixtureOfExperts) -> Posterior:
    """Return means and deviations of the variational posterior, in closed form."""
    experts, weights = mixture.experts, torch.full((2,), 0.5)
    rising = int(experts.coefficients[:, 0, 1].argmax())
    order, deviation = [rising, 1 - rising], torch.zeros(1)
    if isinstance(mixture.gate, DirichletGate):
        q = Dirichlet(mixture.gate.posterior_concentration)
        weights, deviation = q.mean, q.stddev[[rising]]
    mean = torch.cat([experts.coefficients[order].flatten(), weights[[rising]]])
    return Posterior(mean, torch.cat([experts.coefficient_standard_deviations[order].flatten(), deviation]))


def draws_of_nuts(
    mixture: MixtureOfExperts, start: MixtureOfExperts, x: Tensor, y: Tensor, args: argparse.Namespace
) -> tuple[Tensor, Tensor, int]:
    """Draw coefficients and weights by NUTS from the end of a fit; return them and the divergent transitions."""
    posterior = start.experts.posterior
    values = {
        "experts.precision": posterior.shape.unsqueeze(1) / posterior.rate,
        "experts.coefficients": start.experts.coefficients,
    }
    kernel = NUTS(
        mixture.model,
        max_plate_nesting=1,
        full_mass=True,
        max_tree_depth=args.tree_depth,
        init_strategy=init_to_value(values=values),
    )
    chain = MCMC(kernel, num_samples=args.samples, warmup_steps=args.warmup, disable_progbar=True)
    # Checks of every distribution at every leapfrog step would take a third of the time.
    with pyro.validation_enabled(False):
        chain.run(x, y)
    draws = chain.get_samples()
    coefficients = draws["experts.coefficients"][:, :, 0]
    weights = draws.get("gate.weights", torch.full((args.samples, 2), 0.5))
    return coefficients, weights, sum(len(found) for found in chain.diagnostics()["divergences"].values())


def summary(coefficients: Tensor, weights: Tensor) -> Posterior:
    """Summarise draws [S, 2, 2] of lines and [S, 2] of weights, the rising line first in each draw."""
    rising = coefficients[:, :, 1].argmax(1)
    draw = torch.arange(len(rising))
    lines = torch.cat([coefficients[draw, rising], coefficients[draw, 1 - rising]], 1)
    values = torch.cat([lines, weights[draw, rising].unsqueeze(1)], 1)
    return Posterior(values.mean(0), values.std(0))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=5, help="starts of each fit")
    parser.add_argument("--samples", type=int, default=1000, help="draws of NUTS")
    parser.add_argument("--warmup", type=int, default=300, help="steps of adaptation before the draws")
    parser.add_argument("--tree-depth", type=int, default=7, help="at most 2 to this many leapfrog steps a draw")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers")
    torch.set_num_threads(1)
    main(parser.parse_args())
