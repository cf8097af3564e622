"""The steps of an M-step: those of Pyro's SVI, by Adam or an optimiser that is assigned."""

import copy
from collections.abc import Callable

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import ELBO, SVI
from pyro.nn import PyroModule, pyro_method
from pyro.optim import PyroOptim
from torch import Tensor, nn

from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.gates import NeuralGate
from tests.fitting.gradient.linear_gates import K, assert_all_equal, gate, train, trained_alone
from tests.problems import inputs, responsibilities


def test_the_steps_are_those_of_pyros_svi_over_all_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, object, set[torch.Size]]] = []
    step = SVI.step

    def spy(svi: SVI, *args: object) -> object:
        with poutine.trace(param_only=True) as trace:
            loss = step(svi, *args)  # type: ignore[no-untyped-call]
        sites = {torch.as_tensor(site["value"]).shape for site in trace.trace.nodes.values()}
        seen.append((getattr(svi.loss_and_grads, "__self__", None), svi.optim, sites))
        return loss

    monkeypatch.setattr(SVI, "step", spy)
    MStep(gate()).epoch(inputs(20), responsibilities(20, K), batch_size=10)
    assert len(seen) == 2
    for elbo, optimizer, shapes in seen:
        assert isinstance(elbo, ELBO)
        assert isinstance(optimizer, PyroOptim)
        assert optimizer.pt_optim_constructor is torch.optim.Adam
        assert shapes == {torch.Size([K, 2]), torch.Size([K])}


def test_a_step_gives_the_loss_before_it() -> None:
    one = gate()
    x, r = inputs(20), responsibilities(20, K)
    loss = -0.5 * one.partial_bound(x, r).item()
    assert MStep(one).step(x, r, scale=0.5) == pytest.approx(loss)


def test_adam_keeps_its_state_when_the_module_changes_its_dtype() -> None:
    one = gate()
    m_step = MStep(one)
    train(one, m_step, n_steps=5)
    one.float()
    m_step.step(inputs(20).float(), responsibilities(20, K).float())
    assert one.network.weight.dtype == torch.float32
    for state in m_step.optimizer.state.values():
        assert int(state["step"]) == 6
        assert state["exp_avg"].dtype == torch.float32


def test_an_assigned_optimiser_is_the_one_that_steps() -> None:
    one, twin = (NeuralGate(K, copy.deepcopy(network)) for network in [nn.Linear(2, K).double()] * 2)
    m_step, plain = MStep(one), torch.optim.SGD(twin.parameters(), lr=0.1)
    assert isinstance(m_step.optimizer, torch.optim.Adam)
    m_step.optimizer = sgd = torch.optim.SGD(one.parameters(), lr=0.1)
    assert m_step.optimizer is sgd
    for _ in range(3):
        plain.zero_grad()
        (-twin.partial_bound(inputs(20), responsibilities(20, K))).backward()
        plain.step()
    trained = train(one, m_step, n_steps=3)
    for ours, theirs in zip(trained, twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.detach())


def test_an_assigned_optimiser_changes_its_own_parameters_only() -> None:
    one = gate()
    m_step = MStep(one)
    weight, bias = one.parameters()
    m_step.optimizer = torch.optim.SGD([bias], lr=0.1)
    before = [parameter.detach().clone() for parameter in (weight, bias)]
    train(one, m_step)
    assert torch.equal(weight, before[0])
    assert not torch.equal(bias, before[1])


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize("make", [lambda p: "adam", lambda p: torch.optim.LBFGS(p), lambda p: torch.optim.Adam])
def test_what_cannot_step_is_refused_as_an_optimiser(make: Callable[[list[nn.Parameter]], object]) -> None:
    one = gate()
    m_step = MStep(one)
    before = m_step.optimizer
    with pytest.raises(TypeError, match=r"`optimizer` must be a torch\.optim\.Optimizer whose step"):
        m_step.optimizer = make(list(one.parameters()))  # type: ignore[assignment]
    assert m_step.optimizer is before


def pyro_linear(kind: Callable[..., nn.Module]) -> nn.Module:
    """Make a layer of a class derived by PyroModule."""
    return kind(2, K).double()


def test_networks_of_pyro_modules_take_the_same_steps() -> None:
    torch.manual_seed(1)
    one = NeuralGate(K, pyro_linear(PyroModule[nn.Linear]))
    assert_all_equal(train(one, MStep(one)), trained_alone(1))


def test_the_objective_of_a_subclass_is_the_one_maximised() -> None:
    class TowardsThree(NeuralGate):
        @pyro_method
        def objective(self, *rows: Tensor) -> None:
            pyro.factor(self.site("objective"), -(linear.weight - 3.0).square().sum())

    linear = nn.Linear(2, K).double()
    one = TowardsThree(K, linear)
    m_step = MStep(one)
    before = (linear.weight - 3.0).abs().max()
    bias = linear.bias.detach().clone()
    for _ in range(20):
        m_step.step(inputs(20), responsibilities(20, K), lr=0.1)
    assert (linear.weight - 3.0).abs().max() < before - 1.0
    assert torch.equal(linear.bias, bias)


def test_tied_weights_stay_tied_and_lazy_ones_get_their_shape() -> None:
    torch.manual_seed(1)
    layer = nn.Linear(K, K).double()
    tied = NeuralGate(K, nn.Sequential(nn.LazyLinear(K, dtype=torch.float64), layer, nn.Tanh(), layer))
    m_step = MStep(tied)
    losses = [m_step.step(inputs(20), responsibilities(20, K), lr=0.05) for _ in range(20)]
    m_step.epoch(inputs(20), responsibilities(20, K), batch_size=8)
    assert losses[-1] < losses[0]
    assert tied.network[1] is tied.network[3]  # type: ignore[index]
    assert len(list(tied.parameters())) == 4


@pytest.mark.parametrize("kind", [nn.Linear, PyroModule[nn.Linear]])
def test_frozen_parameters_stay_frozen(kind: type[nn.Linear]) -> None:
    network = kind(2, K, dtype=torch.float64)
    network.bias.requires_grad_(False)
    one = NeuralGate(K, network)
    bias = network.bias.detach().clone()
    m_step = MStep(one)
    m_step.step(inputs(20), responsibilities(20, K))
    m_step.improve(inputs(20), responsibilities(20, K), n_steps=3)
    assert torch.equal(network.bias, bias)
    assert not network.bias.requires_grad
    assert network.weight.requires_grad


def test_a_frozen_parameter_with_a_gradient_stays_unchanged() -> None:
    one = gate()
    m_step = MStep(one)
    train(one, m_step)
    one.expected_log_weights(inputs(4))[:, 0].sum().backward()
    *_, bias = one.parameters()
    bias.requires_grad_(False)
    before, gradient = bias.detach().clone(), bias.grad
    train(one, m_step)
    assert torch.equal(bias, before)
    assert bias.grad is gradient
