"""One Adam over all parameters beside a loop of plain torch, and L-BFGS as an optimiser of Pyro."""

import copy
from collections.abc import Sequence

import pytest
import torch
from pyro.optim import PyroOptim
from torch import Tensor, nn
from torch.nn import Parameter

from mixpyro.fitting.gradient.optimisers import FullDataLBFGS, FusedAdam, TorchOptimizer
from tests.problems import inputs

# Relative to the largest value of a parameter.
TOLERANCES = {torch.float32: 1e-6, torch.float64: 1e-12}


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Two layers whose sizes are no multiples of a processor's vector length."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(2, 7), nn.Tanh(), nn.Linear(7, 3)).to(dtype)


def loss(network: nn.Module, number: int) -> Tensor:
    """A different loss at every step."""
    x = inputs(20).to(next(network.parameters()).dtype)
    return (network(x * (1.0 + number)) - number).square().mean()


def train(network: nn.Module, adam: TorchOptimizer, numbers: Sequence[int]) -> None:
    """Take the steps of these numbers with an optimiser of ours."""
    adam.follow(network.parameters())
    for number in numbers:
        loss(network, number).backward()
        adam([])


def train_plainly(network: nn.Module, adam: torch.optim.Optimizer, numbers: Sequence[int]) -> None:
    """Take the same steps in plain torch."""
    for number in numbers:
        adam.zero_grad()
        loss(network, number).backward()
        adam.step()


def assert_close(first: nn.Module, second: nn.Module) -> None:
    """Compare all parameters."""
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        tolerance = TOLERANCES[ours.dtype]
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * float(theirs.detach().abs().max()))


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_the_steps_are_those_of_plain_adam(dtype: torch.dtype) -> None:
    one, other = network(dtype), network(dtype)
    ours, plain = FusedAdam(one.parameters()), torch.optim.Adam(other.parameters())
    for _ in range(3):
        train(one, ours, range(10))
        train_plainly(other, plain, range(10))
    assert_close(one, other)
    assert isinstance(ours, PyroOptim)
    assert ours.optimizer.param_groups[0]["fused"]
    assert all(parameter.grad is None for parameter in one.parameters())


def test_a_given_optimiser_takes_its_own_steps() -> None:
    one, other = network(), network()
    ours = TorchOptimizer(torch.optim.SGD(one[0].parameters(), lr=1e-4, momentum=0.9))
    train(one, ours, range(20))
    train_plainly(other, torch.optim.SGD(other[0].parameters(), lr=1e-4, momentum=0.9), range(20))
    assert_close(one, other)


def test_a_layer_that_is_frozen_for_a_while_keeps_its_state_and_step_count() -> None:
    one, other = network(), network()
    ours, plain = FusedAdam(one.parameters()), torch.optim.Adam(other.parameters())
    for frozen in ([0], [2], [], [0], []):
        for each in (one, other):
            for number in (0, 2):
                each[number].requires_grad_(number not in frozen)
        train(one, ours, range(20))
        train_plainly(other, plain, range(20))
    assert_close(one, other)


def test_a_layer_that_replaces_another_is_trained_from_its_first_step() -> None:
    one, other = network(), network()
    ours, plain = FusedAdam(one.parameters()), torch.optim.Adam(other.parameters())
    train(one, ours, range(20))
    train_plainly(other, plain, range(20))
    for each in (one, other):
        each[2] = copy.deepcopy(network()[2])
    plain.add_param_group({"params": list(other[2].parameters())})
    train(one, ours, range(20))
    train_plainly(other, plain, range(20))
    assert_close(one, other)


class MixedDtypes(nn.Module):
    """Parameters of two dtypes, two of which share their storage."""

    def __init__(self) -> None:
        super().__init__()
        base = torch.ones(4, dtype=torch.float64)
        self.first, self.second = Parameter(base[:2]), Parameter(base[2:])
        self.low = Parameter(torch.ones(3, 2))
        self.lower = Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.first + self.second) @ self.low.double().mT + self.lower


def test_parameters_of_two_dtypes_and_of_one_storage_are_trained_as_they_are() -> None:
    one, other = MixedDtypes(), MixedDtypes()
    train(one, FusedAdam(one.parameters()), range(30))
    train_plainly(other, torch.optim.Adam(other.parameters()), range(30))
    assert_close(one, other)
    assert one.first.untyped_storage().data_ptr() == one.second.untyped_storage().data_ptr()


def test_a_copy_has_the_state_and_does_not_change_the_original() -> None:
    one = network()
    adam = FusedAdam(one.parameters())
    train(one, adam, range(10))
    twin, its_adam = copy.deepcopy((one, adam))
    train(one, adam, range(10))
    train(twin, its_adam, range(10))
    assert_close(one, twin)


@pytest.mark.parametrize("kind", ["fused Adam", "given Adam"])
def test_the_state_follows_parameters_to_another_dtype(kind: str) -> None:
    """Ten steps in float32 and ten in float64 are close to twenty in float64; without the state they are not."""
    one, other = network(torch.float32), network(torch.float64)
    adam = FusedAdam(one.parameters()) if kind == "fused Adam" else TorchOptimizer(torch.optim.Adam(one.parameters()))
    train(one, adam, range(10))
    one.double()
    train(one, adam, range(10, 20))
    train_plainly(other, torch.optim.Adam(other.parameters()), range(20))
    for ours, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert ours.dtype == torch.float64
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_parameters_that_torch_cannot_fuse_are_trained_all_the_same() -> None:
    theta = Parameter(torch.ones(2, dtype=torch.complex128))
    reference = Parameter(theta.detach().clone())
    for parameter, adam in (
        (theta, FusedAdam([theta], lr=0.1)),
        (reference, TorchOptimizer(torch.optim.Adam([reference], lr=0.1))),
    ):
        for _ in range(5):
            (parameter - 2.0j).abs().square().sum().backward()
            adam([])
    torch.testing.assert_close(theta, reference)
    assert theta[0].imag > 0.3


def test_without_parameters_a_step_does_nothing() -> None:
    adam = FusedAdam([])
    adam.follow([])
    state = torch.get_rng_state()
    adam([])
    assert not adam.optimizer.state
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("tolerance", "near"), [(1e-14, 1e-6), (10.0, 0.9)])
def test_lbfgs_reaches_the_optimum_or_ends_where_a_step_gains_too_little(tolerance: float, near: float) -> None:
    theta = Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    evaluations = []

    def loss_and_gradients() -> float:
        loss = 100.0 * (theta[1] - theta[0] ** 2) ** 2 + (1.0 - theta[0]) ** 2
        loss.backward()
        evaluations.append(loss.item())
        return evaluations[-1]

    FullDataLBFGS([theta], 100, loss_and_gradients, tolerance=tolerance)([theta])
    distance = float((theta.detach() - 1.0).abs().max())
    assert distance < near if tolerance < 1.0 else distance > near
