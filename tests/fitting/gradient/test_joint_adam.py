"""Adam over parameters laid end to end, beside Adam over each."""

import copy
from collections.abc import Sequence

import pytest
import torch
from pyro.optim import PyroOptim
from torch import Tensor, nn

from mixpyro.fitting.gradient.joint_adam import JointAdam
from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.gates import NeuralGate
from tests.problems import inputs

WIDTH = 7


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Layers of sizes that leave a rest in every vector of the processor."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(2, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 3)).to(dtype)


def loss(network: nn.Module, number: int) -> Tensor:
    """Another one at every step."""
    x = inputs(20, dtype=next(network.parameters()).dtype)
    return (network(x * (1.0 + number)) - number).square().mean()


def train(network: nn.Module, adam: JointAdam, numbers: Sequence[int]) -> None:
    """Steps of ours."""
    trainable = [p for p in network.parameters() if p.requires_grad]
    with adam.over(trainable) as leaves:
        for number in numbers:
            loss(network, number).backward()
            adam(leaves)


def train_plainly(network: nn.Module, adam: torch.optim.Adam, numbers: Sequence[int]) -> None:
    """The same by PyTorch alone."""
    for number in numbers:
        adam.zero_grad()
        loss(network, number).backward()
        adam.step()


def assert_same(first: nn.Module, second: nn.Module) -> None:
    """Bit for bit."""
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_steps_are_those_of_adam_to_the_last_bit(dtype: torch.dtype) -> None:
    one, other = network(dtype), network(dtype)
    ours, plain = JointAdam(), torch.optim.Adam(other.parameters())
    for start in (0, 100, 200):
        train(one, ours, range(start, start + 100))
        train_plainly(other, plain, range(start, start + 100))
    assert_same(one, other)
    assert isinstance(ours, PyroOptim)
    assert len(ours.groups) == 1


def test_a_layer_that_is_frozen_for_a_while_and_one_that_is_trained_later() -> None:
    """Each parameter has the steps that it was trained for, as in PyTorch."""
    one, other = network(), network()
    ours, plain = JointAdam(), torch.optim.Adam(other.parameters())
    for frozen in ([0], [2], [], [0], []):
        for each in (one, other):
            for number in (0, 2):
                each[number].requires_grad_(number not in frozen)
        train(one, ours, range(20))
        train_plainly(other, plain, range(20))
    assert_same(one, other)
    assert len(ours.groups) == 2


def test_parameters_of_two_dtypes_and_of_one_storage_are_trained_as_they_are() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            base = torch.ones(4, dtype=torch.float64)
            self.first, self.second = nn.Parameter(base[:2]), nn.Parameter(base[2:])
            self.low = nn.Parameter(torch.ones(3, 2))
            self.lower = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return (x * self.first + self.second) @ self.low.double().mT + self.lower

    one, other = Mixed(), Mixed()
    ours, plain = JointAdam(), torch.optim.Adam(other.parameters())
    train(one, ours, range(30))
    train_plainly(other, plain, range(30))
    assert_same(one, other)
    assert len(ours.groups) == 3
    assert one.first.untyped_storage().data_ptr() == one.second.untyped_storage().data_ptr()


def test_a_copy_goes_on_alone_with_the_state() -> None:
    one = network()
    adam = JointAdam()
    train(one, adam, range(10))
    twin, its_adam = copy.deepcopy((one, adam))
    train(one, adam, range(10))
    train(twin, its_adam, range(10))
    assert_same(one, twin)


def test_the_state_follows_to_another_dtype() -> None:
    one = network(torch.float32)
    adam = JointAdam()
    train(one, adam, range(10))
    one.double()
    train(one, adam, range(2))
    assert adam.adam is not None
    state = adam.adam.state[adam.groups[0].leaf]
    assert state["step"] == 12
    assert state["exp_avg"].dtype == torch.float64


def test_without_parameters_there_is_nothing_to_do() -> None:
    adam = JointAdam()
    with adam.over([]) as leaves:
        adam(leaves)
    assert adam.adam is None


def test_the_state_of_a_parameter_alone_follows_it_to_another_dtype() -> None:
    gate = NeuralGate(3, nn.Linear(2, 3, bias=False))
    m_step = MStep(gate)
    x, r = torch.randn(20, 2), torch.rand(20, 3)
    m_step.step(x, r)
    gate.double()
    m_step.step(x.double(), r.double())
    assert m_step._adam.adam is not None
    (state,) = m_step._adam.adam.state.values()
    assert state["exp_avg"].dtype == torch.float64
    assert float(state["step"]) == 2.0
