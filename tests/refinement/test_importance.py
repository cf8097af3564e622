"""Adaptive importance sampling of parameters, on a density whose moments are known."""

from typing import NamedTuple, cast

import pytest
import torch
from torch import Tensor

from mixpyro.intervals.densities import LogJoint
from mixpyro.intervals.proposals import StudentT
from mixpyro.intervals.relabelling import Relabelling
from mixpyro.refinement.importance import Sampling, Weighted, adapted

pytestmark = pytest.mark.usefixtures("without_type_checks")  # the targets are densities written out here


class Banana(NamedTuple):
    """x ~ Normal(0, 1), y | x ~ Normal((x² − 1) / 2, ½²), whose means are zero and whose variances are 1 and ¾."""

    size: int = 2

    @property
    def parameters(self) -> "Banana":
        return self

    def __call__(self, theta: Tensor) -> Tensor:
        return -0.5 * theta[:, 0] ** 2 - 2.0 * (theta[:, 1] - 0.5 * (theta[:, 0] ** 2 - 1.0)) ** 2


class Swapped(NamedTuple):
    """Two orders: the coordinates as they are, and with their signs changed."""

    orders: tuple[int, ...] = (0, 1)

    def images(self, theta: Tensor) -> Tensor:
        return torch.stack([theta, -theta])


class Fixed(NamedTuple):
    """One order."""

    orders: tuple[int, ...] = (0,)

    def images(self, theta: Tensor) -> Tensor:
        return theta.unsqueeze(0)


def found(target: object, relabelling: object, first: StudentT, n_rounds: int = 4) -> list[Weighted]:
    torch.manual_seed(0)
    covariance = first.root @ first.root.mT
    sampling, proposal = Sampling(cast(LogJoint, target), cast(Relabelling, relabelling), first), first
    rounds = []
    for _ in range(n_rounds):
        rounds.append(sampling.round(proposal, 1000))
        proposal = adapted(rounds[-1], covariance)
    return rounds


def test_a_narrow_proposal_is_widened_to_the_target() -> None:
    first = StudentT(torch.tensor([0.7, 0.0]).double(), 0.15 * torch.eye(2).double(), 5.0)
    all_rounds = found(Banana(), Fixed(), first)
    assert [one.n_rounds for one in all_rounds] == [1, 2, 3, 4]
    last = all_rounds[-1]
    assert last.n_effective / len(last.theta) > 2.0 * all_rounds[0].n_effective / len(all_rounds[0].theta)
    assert float(last.weights.sum()) == pytest.approx(1.0)
    assert bool((last.mean.abs() < 0.15).all())
    torch.testing.assert_close(last.covariance.diagonal(), torch.tensor([1.0, 0.75]).double(), rtol=0.15, atol=0)
    draws = last.resampled(2000)
    torch.testing.assert_close(draws.mean(0), last.mean, rtol=0, atol=0.05)


class Symmetric(NamedTuple):
    """Half Normal(m, 1), half Normal(−m, 1): the posterior of two exchangeable labels, of which one is wanted."""

    mean: float
    size: int = 1

    @property
    def parameters(self) -> "Symmetric":
        return self

    def __call__(self, theta: Tensor) -> Tensor:
        halves = [-0.5 * (theta[:, 0] - self.mean) ** 2, -0.5 * (theta[:, 0] + self.mean) ** 2]
        return torch.stack(halves).logsumexp(0)


@pytest.mark.parametrize("mean", [0.5, 1.5, 6.0])
def test_the_other_order_is_neither_drawn_nor_forgotten(mean: float) -> None:
    """The part of the target beyond zero counts on this side: the draws are those of |θ|."""
    first = StudentT(torch.tensor([mean]).double(), torch.eye(1).double(), 5.0)
    last = found(Symmetric(mean), Swapped(), first, n_rounds=2)[-1]
    assert bool((last.theta > 0).all())
    grid = torch.linspace(0.0, 20.0, 20_001).double()
    weights = Symmetric(mean)(grid.unsqueeze(1)).softmax(0)
    expected, spread = float(weights @ grid), float((weights @ grid**2 - (weights @ grid) ** 2).sqrt())
    assert float(last.mean) == pytest.approx(expected, abs=0.1 * spread)
    assert float(last.covariance.sqrt()) == pytest.approx(spread, rel=0.06)


def test_draws_go_to_the_order_that_the_first_proposal_prefers() -> None:
    first = StudentT(torch.tensor([1.0, 1.0]).double(), torch.eye(2).double(), 5.0)
    theta = torch.tensor([[0.5, 0.4], [-0.5, -0.4], [3.0, -2.0], [-3.0, 2.0]]).double()
    expected = torch.tensor([[0.5, 0.4], [0.5, 0.4], [3.0, -2.0], [3.0, -2.0]]).double()
    sampling = Sampling(cast(LogJoint, Banana()), cast(Relabelling, Swapped()), first)
    assert torch.equal(sampling.in_order(theta), expected)


def test_a_target_that_is_nowhere_finite_is_no_number() -> None:
    class Nowhere(Symmetric):
        def __call__(self, theta: Tensor) -> Tensor:
            return torch.full_like(theta[:, 0], torch.nan)

    first = StudentT(torch.zeros(1).double(), torch.eye(1).double(), 5.0)
    assert found(Nowhere(1.0), Fixed(), first, n_rounds=1)[-1].khat == float("inf")
