"""Where runs start."""

import torch
from torch import Generator

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts
from mixpyro.inference.restarts import from_random_subsets, random_assignments, random_starts
from tests.problems import lines


def mixture(n_components: int = 3) -> MixtureOfExperts:
    """A small one."""
    return MixtureOfExperts(DirichletGate(n_components), LinearExperts(n_components, 1))


def test_starts_are_on_the_simplex_and_differ_from_each_other() -> None:
    x, y, _ = lines(30, 3)
    starts = [start(mixture(), x, y) for start in random_starts(6, seed=0)]
    for start in starts:
        torch.testing.assert_close(start.sum(-1), torch.ones(30).double())
    assert len({tuple(start.flatten().tolist()) for start in starts}) == 6


def test_random_assignments_use_every_component() -> None:
    start = random_assignments(torch.zeros(3000, 1), 3, Generator().manual_seed(0))
    torch.testing.assert_close(start.mean(0), torch.full((3,), 1 / 3), rtol=0, atol=0.04)


def test_there_may_be_fewer_rows_than_the_subsets_want() -> None:
    x, y, _ = lines(2, 3)
    start = from_random_subsets(mixture(), x, y, Generator().manual_seed(0))
    assert torch.isfinite(start).all()
