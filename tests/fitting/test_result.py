"""What a fit says of itself."""

import torch

from mixpyro import DirichletGate, FitResult, LinearExperts, MixtureOfExperts, Run


def result() -> FitResult:
    """Three runs, two of which end at the same bound."""
    runs = (Run((-5.0, -2.0), True), Run((-9.0, -4.0, -3.0), False), Run((-7.0, -2.0005), True))
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    return FitResult(mixture, torch.ones(3, 2) / 2, best=0, runs=runs)


def test_it_speaks_of_the_best_run() -> None:
    best = result()
    assert best.bound == -2.0
    assert best.trace == (-5.0, -2.0)
    assert best.converged
    assert best.n_iterations == 2
    assert best.n_reached_best() == 2
    assert best.n_reached_best(tolerance=1e-6) == 1


def test_it_reads_as_a_sentence() -> None:
    assert str(result()) == "bound -2.0000 nats, converged after 2 iterations; 2 of 3 restarts reached it"
