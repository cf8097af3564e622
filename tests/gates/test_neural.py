"""The gate that reads the inputs."""

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Normal
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroSample
from pyro.optim import ClippedAdam
from torch import Tensor, nn

from mixpyro import ConjugateSVI
from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.gates import NeuralGate
from mixpyro.pyro_internals.parameter_store import own_parameter_store
from tests.gates.contract import GateContract, K
from tests.problems import in_plate, inputs, responsibilities


def network(n_components: int = K, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Two small layers."""
    return nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, n_components)).to(dtype)


class TestNeuralGate(GateContract):
    """The contract."""

    def make(self, n_components: int = K) -> NeuralGate:
        return NeuralGate(n_components, network(n_components if n_components == K else K))


def cross_entropy(gate: NeuralGate, x: Tensor, r: Tensor) -> Tensor:
    """−Σ r log π, written down without the library."""
    return -(r * torch.log_softmax(gate.network(x), dim=-1)).sum()


def test_the_gradient_of_the_svi_loss_is_that_of_the_cross_entropy() -> None:
    gate, x, r = NeuralGate(K, network()), inputs(20), responsibilities(20, K)
    parameters = list(gate.parameters())
    expected = torch.autograd.grad(cross_entropy(gate, x, r), parameters)
    with own_parameter_store(gate):
        Trace_ELBO().loss_and_grads(gate.objective, lambda *_: None, x, r)
        gradients = [parameter.grad for parameter in parameters]
    for ours, plain in zip(gradients, expected, strict=True):
        assert ours is not None
        assert (ours - plain).abs().max() < 1e-12


def test_the_gradient_through_the_pyro_model_is_the_same() -> None:
    """With z enumerated in the guide with q(z) = r, as in a user's own SVI."""
    gate, x, r = NeuralGate(K, network()), inputs(20), responsibilities(20, K)
    parameters = list(gate.parameters())
    expected = torch.autograd.grad(cross_entropy(gate, x, r), parameters)
    loss = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(
        in_plate(gate.model), lambda x: in_plate(gate.guide)(x, responsibilities=r), x
    )
    for first, second in zip(torch.autograd.grad(loss, parameters), expected, strict=True):
        assert (first - second).abs().max() < 1e-12


def test_a_prior_adds_its_log_density_to_the_objective() -> None:
    gate = NeuralGate(K, network(), prior_scale=0.5)
    log_density = sum(torch.distributions.Normal(0.0, 0.5).log_prob(p).sum() for p in gate.parameters())
    torch.testing.assert_close(-gate.kl_divergence(), log_density)


def test_a_prior_holds_the_weights_of_separable_data() -> None:
    x = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    r = torch.eye(2, dtype=torch.float64)
    gate = NeuralGate(2, nn.Linear(1, 2).double(), prior_scale=1.0)
    m_step = MStep(gate)
    for _ in range(12):
        m_step.improve(x, r, n_steps=20)
    slope = gate.network.weight[1] - gate.network.weight[0]  # type: ignore[index]
    # d/ds of 2 log σ(s) − s²/4 is zero, s being the difference of two weights with prior N(0, 1) each.
    torch.testing.assert_close(slope / 2, 2 * torch.sigmoid(-slope), rtol=0, atol=1e-4)


def test_users_svi_trains_the_network() -> None:
    gate, x, r = NeuralGate(K, network()), inputs(20), responsibilities(20, K)
    before = cross_entropy(gate, x, r)
    svi = SVI(
        in_plate(gate.model),
        lambda x: in_plate(gate.guide)(x, responsibilities=r),
        ClippedAdam({"lr": 0.01}),
        TraceEnum_ELBO(max_plate_nesting=1),
    )
    for _ in range(20):
        svi.step(x)
    assert cross_entropy(gate, x, r) < before - 0.1


def test_a_collision_of_names_is_refused() -> None:
    """Pyro itself would let the second gate use the first one's parameters in silence."""
    first, second, x = NeuralGate(K, network()), NeuralGate(K, network()), inputs(4)
    in_plate(first.model)(x)
    in_plate(first.model)(x)
    with pytest.raises(RuntimeError, match=r"'gate.network.0.weight'.*its own `name`"):
        in_plate(second.model)(x)
    in_plate(NeuralGate(K, network(), name="other").model)(x)
    pyro.clear_param_store()
    in_plate(second.model)(x)


@pytest.mark.usefixtures("bad_arguments")
def test_a_bad_network_is_refused() -> None:
    with pytest.raises(TypeError, match=r"`network` must be a torch.nn.Module; got function"):
        NeuralGate(K, lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`network` must return logits of shape \[4, 3\].*got \[4, 2\]"):
        NeuralGate(K, nn.Linear(2, 2).double()).weights(inputs(4))
    with pytest.raises(ValueError, match="`prior_scale` must be finite and above 0; got -1"):
        NeuralGate(K, network(), prior_scale=-1.0)


def test_random_weights_are_refused_where_an_output_is_needed() -> None:
    bayesian = PyroModule[nn.Linear](2, K).double()  # type: ignore[call-arg,arg-type]
    bayesian.weight = PyroSample(Normal(torch.zeros(K, 2).double(), 1.0).to_event(2))
    gate, x = NeuralGate(K, bayesian), inputs(4)
    with pytest.raises(RuntimeError, match="`network` must have no random weights"):
        gate.weights(x)
    assert "gate.network.weight" in poutine.trace(in_plate(gate.model)).get_trace(x).nodes


def test_a_pyro_module_as_network_leaves_the_users_store_alone() -> None:
    """Its restarts in a fit must not share parameters either."""
    networks = [PyroModule[nn.Linear](2, K).double() for _ in range(2)]  # type: ignore[call-arg,arg-type]
    gates, x = [NeuralGate(K, one) for one in networks], inputs(4)
    first, second = (gate.expected_log_weights(x)[:, 0] for gate in gates)
    assert not torch.equal(first, second)
    assert len(pyro.get_param_store()) == 0
    first.sum().backward()
    assert networks[0].weight.grad is not None


def test_a_program_that_reads_the_weights_is_guarded_too() -> None:
    class Program(PyroModule):
        def __init__(self, gate: NeuralGate) -> None:
            super().__init__()
            self.gate = gate

        def forward(self, x: Tensor) -> Tensor:
            return self.gate.weights(x)

    x = inputs(4)
    Program(NeuralGate(K, network()))(x)
    with pytest.raises(RuntimeError, match="its own `name`"):
        Program(NeuralGate(K, network()))(x)


def test_float32_networks_serve_float64_inputs() -> None:
    gate, x = NeuralGate(K, network(dtype=torch.float32)), inputs(4)
    assert gate.weights(x).dtype == torch.float64
    torch.testing.assert_close(gate.weights(x).float(), gate.weights(x.float()))


def bayesian_network() -> PyroModule:
    """A linear layer with random weights, and a bias that is fixed."""
    layer = PyroModule[nn.Linear](2, K).double()  # type: ignore[call-arg,arg-type]
    layer.weight = PyroSample(Normal(torch.zeros(K, 2).double(), 3.0).to_event(2))
    layer.bias.requires_grad_(False)
    return layer


@pytest.mark.parametrize("conjugate", [True, False])
def test_a_bayesian_network_learns_in_a_users_program(conjugate: bool) -> None:
    """Its weights have an automatic guide; under ConjugateSVI as under plain SVI they find the step in x."""
    x = inputs(60)
    gate, y = NeuralGate(K, bayesian_network()), 4.0 * (x[:, 0] > 0).double()
    means = torch.tensor([0.0, 4.0, 40.0]).double()

    def model() -> None:
        plate = pyro.plate("objects", len(x), dim=-1)
        z = gate.model(x, plate=plate)
        with plate:
            pyro.sample("y", Normal(means[z], 1.0), obs=y)

    guide = AutoNormal(poutine.block(model, hide=gate.latent_sites))
    optim, elbo = ClippedAdam({"lr": 0.1}), TraceEnum_ELBO(max_plate_nesting=1)
    svi = ConjugateSVI(model, guide, optim, elbo, gates=gate) if conjugate else SVI(model, guide, optim, elbo)
    bias = gate.network.bias.detach().clone()  # type: ignore[operator]
    losses = [svi.step() for _ in range(120)]
    assert sum(losses[-20:]) < sum(losses[:20]) - 100.0
    weight = guide.median()["gate.network.weight"]
    assert weight[1, 0] > weight[0, 0] + 1.0
    assert torch.equal(gate.network.bias, bias)  # type: ignore[arg-type]
    assert not gate.network.bias.requires_grad
    assert not any("bias" in name for name in pyro.get_param_store())


@pytest.mark.parametrize("kind", [nn.Linear, PyroModule[nn.Linear]])
def test_fixed_parameters_stay_fixed_in_a_users_program(kind: type) -> None:
    """Pyro would thaw those of a PyroModule, and warn of those of another module."""
    gate, x = NeuralGate(K, kind(2, K).double(), prior_scale=1.0), inputs(10)
    gate.network.weight.requires_grad_(False)
    before = [parameter.detach().clone() for parameter in gate.parameters()]
    r = responsibilities(10, K)
    optim, elbo = ClippedAdam({"lr": 0.1}), TraceEnum_ELBO(max_plate_nesting=1)
    svi = SVI(in_plate(gate.model), lambda x: in_plate(gate.guide)(x, responsibilities=r), optim, elbo)
    for _ in range(3):
        svi.step(x)
    moved = [not torch.equal(old, new) for old, new in zip(before, gate.parameters(), strict=True)]
    assert {name: changed for (name, _), changed in zip(gate.named_parameters(), moved, strict=True)} == {
        "network.weight": False,
        "network.bias": True,
    }
    assert gate.network.weight.grad is None
    assert not gate.network.weight.requires_grad
