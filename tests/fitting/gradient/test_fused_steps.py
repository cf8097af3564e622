"""Steps of Adam in a row, beside a loop of plain torch."""

import pytest
import torch
from torch import nn

from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.fitting.gradient.optimisers import FusedAdam
from mixpyro.gates import NeuralGate
from tests.fitting.gradient.linear_gates import K, gate
from tests.fitting.gradient.test_optimisers import TOLERANCES, MixedDtypes, assert_close, loss, network, train_plainly
from tests.problems import inputs, responsibilities
from tests.state_of_objects import of_module


def train_in_rows(network: nn.Module, adam: FusedAdam, numbers: range, *, times: int = 1) -> None:
    """Take the steps of these numbers in a row, as often as said."""
    for _ in range(times):
        adam.follow(network.parameters())
        with adam.steps_in_a_row():
            for number in numbers:
                loss(network, number).backward()
                adam([])


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "betas": (0.5, 0.9), "lr": 0.01}, {"maximize": True}])
def test_they_are_the_steps_of_plain_adam(dtype: torch.dtype, options: dict[str, object]) -> None:
    one, other = network(dtype), network(dtype)
    ours, plain = FusedAdam(one.parameters()), torch.optim.Adam(other.parameters(), **options)  # type: ignore[arg-type]
    ours.optimizer.param_groups[0].update(options)
    train_in_rows(one, ours, range(10), times=3)
    train_plainly(other, plain, [*range(10)] * 3)
    assert_close(one, other)
    assert [int(state["step"]) for state in ours.optimizer.state.values()] == [30] * 4


def test_after_them_the_optimiser_goes_on_as_any_other() -> None:
    one, other = network(), network()
    ours, plain = FusedAdam(one.parameters()), torch.optim.Adam(other.parameters())
    train_in_rows(one, ours, range(10))
    train_plainly(one, ours.optimizer, range(10))
    ours.optimizer.zero_grad()
    train_in_rows(one, ours, range(10))
    train_plainly(other, plain, [*range(10)] * 3)
    assert_close(one, other)


def test_a_parameter_without_a_gradient_takes_no_step() -> None:
    one, other = network(), network()
    ours, plain = FusedAdam(one.parameters()), torch.optim.Adam(other.parameters())
    ours.follow(one.parameters())
    for each, step, row in ((one, lambda: ours([]), ours.steps_in_a_row()), (other, plain.step, torch.enable_grad())):
        with row:
            for number in range(12):
                plain.zero_grad()
                # The last layer is used in two thirds of the steps.
                (loss(each, number) if number % 3 else each[0](inputs(20)).square().mean()).backward()
                step()
    assert_close(one, other)


def test_parameters_of_two_dtypes_are_stepped_too() -> None:
    one, other = MixedDtypes(), MixedDtypes()
    train_in_rows(one, FusedAdam(one.parameters()), range(10))
    train_plainly(other, torch.optim.Adam(other.parameters()), range(10))
    assert_close(one, other)


def test_hooks_and_schedulers_are_told_of_every_step_of_an_epoch() -> None:
    m_step = MStep(gate())
    scheduler = torch.optim.lr_scheduler.StepLR(m_step.optimizer, 1, gamma=0.5)
    told: list[str] = []
    m_step.optimizer.register_step_post_hook(lambda *_: told.append("after"))
    for _ in range(2):
        m_step.epoch(inputs(20), responsibilities(20, K), batch_size=5)
        scheduler.step()
    assert told == ["after"] * 8
    assert m_step.optimizer.param_groups[0]["lr"] == pytest.approx(0.25e-3)


def test_an_epoch_that_ends_early_leaves_all_as_it_was() -> None:
    class Refusing(nn.Linear):
        calls, most = 0, 10**9

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            if self.calls > self.most:
                raise RuntimeError("no more")
            return super().forward(input)

    one = Refusing(2, K, dtype=torch.float64)
    m_step = MStep(NeuralGate(K, one))
    m_step.epoch(inputs(20), responsibilities(20, K), batch_size=4)
    calls, one.most = one.calls, one.calls + 3
    before = of_module(m_step.module)
    with pytest.raises(RuntimeError, match="no more"):
        m_step.epoch(inputs(20), responsibilities(20, K), batch_size=4)
    assert one.calls == calls
    assert of_module(m_step.module) == before
    assert [int(state["step"]) for state in m_step.optimizer.state.values()] == [5, 5]
