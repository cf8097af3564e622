"""Count the components that a StickBreakingGate finds, beside scikit-learn's and the best K of a DirichletGate.

Run as ``python -m tests.benchmarks.found_components [NAME ...] [--seconds S]``; three minutes on one core. Columns
are scaled to variance one. "Found" are components of half an object or more; of scikit-learn also those with a weight
above 1 / N.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from sklearn.mixture import BayesianGaussianMixture
from torch import Tensor

from mixpyro import DirichletGate, FitResult, GaussianExperts, LinearExperts, MixtureOfExperts, StickBreakingGate, fit
from mixpyro.experts import Experts
from mixpyro.gates import Gate
from mixpyro.reports.criteria import criteria
from tests.conftest import read_table

N_RESTARTS = 5


class Problem(NamedTuple):
    """Data, and the experts to explain them by."""

    x: Tensor
    y: Tensor
    experts: Callable[[int], Experts]
    most: int  # K to begin with
    tried: range  # values of K for a DirichletGate


def densities(y: Tensor, most: int, tried: range) -> Problem:
    """Gaussian densities of standardised columns."""
    y = (y - y.mean(0)) / y.std(0)
    return Problem(y[:, :0], y, lambda k: GaussianExperts(k, y.shape[1]), most, tried)


def regressions(x: Tensor, y: Tensor, most: int) -> Problem:
    """Lines of standardised columns."""
    x, y = ((one - one.mean(0)) / one.std(0) for one in (x, y))
    return Problem(x, y, lambda k: LinearExperts(k, x.shape[1]), most, range(1, 6))


def clusters(n_clusters: int = 10, n_objects: int = 1000) -> Tensor:
    """Clusters of unequal size, four standard deviations or more apart."""
    generator = torch.Generator().manual_seed(1)
    number = torch.arange(n_clusters)
    centres = 3.0 * torch.stack([number % 4, number // 4], dim=1).double()
    centres = centres + torch.rand(n_clusters, 2, generator=generator, dtype=torch.float64)
    sizes = torch.linspace(1.0, 3.0, n_clusters).double()
    z = torch.multinomial(sizes, n_objects, replacement=True, generator=generator)
    return centres[z] + 0.5 * torch.randn(n_objects, 2, generator=generator, dtype=torch.float64)


def problems() -> dict[str, Callable[[], Problem]]:
    """Return the problems by name."""
    return {
        "old faithful": lambda: densities(
            torch.cat(read_table("old_faithful.csv", "eruptions", "waiting"), 1), 25, range(1, 7)
        ),
        "galaxies": lambda: densities(read_table("galaxies.csv", "dat", "dat")[0], 15, range(1, 9)),
        "ethanol": lambda: regressions(*read_table("ethanol.csv", "Equivalence", "NO"), 12),
        "ethanol, other way": lambda: regressions(*read_table("ethanol.csv", "NO", "Equivalence"), 12),
        "co2": lambda: regressions(*read_table("co2_gnp.csv", "GNP", "CO2"), 8),
        "engel": lambda: regressions(*read_table("engel.csv", "income", "foodexp"), 10),
        "simulated, 10": lambda: densities(clusters(), 25, range(7, 13)),
    }


def fitted(gate: Gate, problem: Problem) -> tuple[FitResult, float]:
    """Fit, and return the result and the seconds."""
    began = time.perf_counter()
    mixture = MixtureOfExperts(gate, problem.experts(gate.n_components))
    result = fit(mixture, problem.x, problem.y, n_restarts=N_RESTARTS, progress=False)
    return result, time.perf_counter() - began


def of_dirichlet(problem: Problem) -> str:
    """The K of the highest bound with log K! (DirichletGate), and the seconds of all fits."""
    found = {k: fitted(DirichletGate(k), problem) for k in problem.tried}
    evidence = {k: criteria(result, problem.x, problem.y).log_evidence for k, (result, _) in found.items()}
    best = max(evidence, key=evidence.__getitem__)
    return f"{best} ({evidence[best]:.1f} nats, {sum(seconds for _, seconds in found.values()):.1f} s)"


def of_scikit_learn(problem: Problem) -> str:
    """Components with rows, and with a weight above 1 / N, of the same prior; not of regressions."""
    if problem.x.shape[1]:
        return "–"
    began = time.perf_counter()
    experts, y = GaussianExperts(1, problem.y.shape[1]), problem.y.numpy()
    experts.centre(problem.y, problem.y)
    prior = experts.prior
    mixture = BayesianGaussianMixture(
        n_components=problem.most,
        weight_concentration_prior=1.0,
        mean_precision_prior=float(prior.mean_precision.flatten()[0]),
        degrees_of_freedom_prior=float(prior.degrees.flatten()[0]),
        covariance_prior=prior.scale.reshape(y.shape[1], y.shape[1]).numpy(),
        n_init=N_RESTARTS,
        max_iter=2000,
        tol=1e-7,
        random_state=0,
    ).fit(y)
    counts = mixture.predict_proba(y).sum(0)
    above = int((mixture.weights_ > 1.0 / len(y)).sum())
    return f"{int((counts >= 0.5).sum())} / {above} ({time.perf_counter() - began:.1f} s)"


def line(problem: Problem) -> str:
    """Return one row of the table."""
    result, seconds = fitted(StickBreakingGate(problem.most), problem)
    sizes = ", ".join(f"{size:.0f}" for size in result.without_empty().counts.tolist())
    evidence = criteria(result, problem.x, problem.y).log_evidence
    own = f"{result.n_used} of {problem.most} ({evidence:.1f} nats, {seconds:.1f} s; {sizes})"
    return f"{own} | {of_dirichlet(problem)} | {of_scikit_learn(problem)}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*problems(), []])
    parser.add_argument("--seconds", type=float, default=600.0)
    given = parser.parse_args()
    began = time.perf_counter()
    print("| problem | StickBreakingGate | best K of DirichletGate | scikit-learn: rows / weights |")
    print("| --- | --- | --- | --- |")
    for name in given.names or problems():
        if time.perf_counter() - began < given.seconds:
            print(f"| {name} | {line(problems()[name]())} |", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
