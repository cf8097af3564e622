"""What a fit says of itself."""

import dataclasses

import pytest
import torch

from mixpyro import DirichletGate, FitResult, FittedData, LinearExperts, MixtureOfExperts, Optimum, Run


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


@pytest.mark.parametrize(
    ("n_objects", "dtype", "tolerance", "n_reached"),
    [
        (100, torch.float64, 1e-7, 1),
        (10**6, torch.float64, 1e-7, 2),
        (10**6, torch.float64, 1e-9, 1),
        # The rounding error of a million float32 log densities is larger than what the tolerance leaves.
        (10**7, torch.float32, 1e-9, 2),
        (100, torch.float64, 1e-3, 2),
    ],
)
def test_the_count_allows_for_what_the_stopping_rule_leaves(
    n_objects: int, dtype: torch.dtype, tolerance: float, n_reached: int
) -> None:
    """Two runs that stopped 0.1 nats apart, which is what a tolerance of 1e-7 leaves on a million rows."""
    data = FittedData(n_objects, float(n_objects), 1, 1, None, dtype, torch.device("cpu"))
    runs = (Run((-9.0, -2.0), True), Run((-9.0, -2.1), True), Run((-9.0, -90.0), True))
    known = dataclasses.replace(result(), runs=runs, data=data, options={"tolerance": tolerance})
    assert known.n_reached_best() == n_reached
    assert known.n_reached_best(tolerance=100.0) == 3


def test_runs_with_degeneracies_count_where_they_share_the_bound() -> None:
    words = ("the gate separates",)
    runs = (Run((-2.0,), True), Run((-2.0001,), True, words), Run((50.0,), True, ("a noise has collapsed",)))
    assert dataclasses.replace(result(), runs=runs).n_reached_best() == 2


def test_an_optimum_reads_as_a_line() -> None:
    assert str(Optimum(-2.0, (0, 3), True)) == "bound -2.0000 nats, reached by 2 restarts"
    one = Optimum(-3.0, (1,), False, cautions=("look at it",))
    assert str(one) == "bound -3.0000 nats, not yet converged by 1 restart: look at it"


def test_an_optimum_without_its_state_is_refused() -> None:
    with pytest.raises(ValueError, match="`number` must be of an optimum whose state was kept; got 0"):
        dataclasses.replace(result(), optima=(Optimum(-2.0, (0,), True),)).at(0)
