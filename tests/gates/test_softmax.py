"""The linear softmax, fitted by Newton's method."""

import pytest
import torch

from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.gates import NeuralGate, SoftmaxGate
from mixpyro.numerics.newton import MOST_DENSE
from tests.gates.contract import GateContract, K
from tests.problems import inputs, responsibilities


class TestSoftmaxGate(GateContract):
    """The contract."""

    def make(self, n_components: int = K) -> SoftmaxGate:
        return SoftmaxGate(n_components, 2)


@pytest.mark.parametrize("prior_scale", [None, 0.7])
def test_newton_and_svi_find_the_same(prior_scale: float | None) -> None:
    x, r = inputs(60), responsibilities(60, K)
    by_newton, by_svi = (SoftmaxGate(K, 2, prior_scale=prior_scale) for _ in range(2))
    by_newton.maximise(x, r)
    m_step = MStep(by_svi)
    for _ in range(4):
        m_step.improve(x, r, n_steps=30)
    torch.testing.assert_close(by_newton.coefficients, by_svi.coefficients, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("scale", "offset"), [(1000.0, 5000.0), (1.0, 2000.0), (1e6, 1.7e9), (1e-6, 0.0)])
def test_the_scale_of_the_inputs_makes_no_difference(scale: float, offset: float) -> None:
    x, r = inputs(60), responsibilities(60, K)
    near, far = SoftmaxGate(K, 2), SoftmaxGate(K, 2)
    near.maximise(x, r)
    far.maximise(scale * x + offset, r)
    torch.testing.assert_close(far.weights(scale * x + offset), near.weights(x), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(
        scale * far.standard_errors(scale * x + offset, r)[:, 1:], near.standard_errors(x, r)[:, 1:], rtol=1e-5, atol=0
    )
    assert far.separations(scale * x + offset, r) == []


def test_standard_errors_are_those_of_the_curvature() -> None:
    """Of a numerical Hessian of the log likelihood, which knows nothing of the formula."""
    x, r = inputs(60), responsibilities(60, K)
    gate = SoftmaxGate(K, 2)
    gate.maximise(x, r)
    shape = gate.coefficients.shape

    def log_likelihood(theta: torch.Tensor) -> torch.Tensor:
        u = torch.cat([torch.ones(60, 1).double(), x], 1)
        logits = torch.cat([torch.zeros(60, 1).double(), u @ theta.reshape(shape).T], 1)
        return (r * logits.log_softmax(-1)).sum()

    hessian = torch.autograd.functional.hessian(log_likelihood, gate.coefficients.detach().flatten())
    expected = torch.linalg.inv(-hessian).diagonal().sqrt().reshape(shape)
    torch.testing.assert_close(gate.standard_errors(x, r), expected)


def test_a_gate_that_separates_is_reported_and_a_prior_helps() -> None:
    x = torch.linspace(-1, 1, 20, dtype=torch.float64).unsqueeze(-1)
    r = torch.cat([(x > 0).double(), (x <= 0).double()], 1)
    gate, held = SoftmaxGate(2, 1), SoftmaxGate(2, 1, prior_scale=3.0)
    for each in (gate, held):
        each.maximise(x, r)
    assert "separates its components" in gate.separations(x, r)[0]
    assert held.separations(x, r) == []
    mixed = responsibilities(20, 2)
    gate.maximise(x, mixed)
    assert gate.separations(x, mixed) == []


def test_collinear_inputs_are_no_separation() -> None:
    """Dummies for every level beside the intercept: the weights are determined, the coefficients are not."""
    x = torch.eye(3).double().repeat(10, 1)
    r = responsibilities(30, 2)
    gate = SoftmaxGate(2, 3)
    gate.maximise(x, r)
    assert gate.separations(x, r) == []
    torch.testing.assert_close(gate.weights(x)[:3], r.unflatten(0, (10, 3)).mean(0), rtol=1e-5, atol=1e-7)
    assert gate.standard_errors(x, r).isinf().all()


def test_many_coefficients_reach_the_maximum() -> None:
    """Beyond a limit no matrix of second derivatives is formed."""
    x, r = inputs(400, 60), responsibilities(400, 6)
    gate, with_prior = SoftmaxGate(6, 60), SoftmaxGate(6, 60, prior_scale=0.2)
    assert gate.n_parameters > MOST_DENSE
    for each in (gate, with_prior):
        each.maximise(x, r)
        (gradient,) = torch.autograd.grad(each.partial_bound(x, r), each.coefficients_estimate)
        assert gradient.abs().max() < 1e-4
        assert each.separations(x, r) == []
    assert with_prior.coefficients.norm() < gate.coefficients.norm()


def test_many_coefficients_that_separate_are_reported() -> None:
    x = inputs(100, 60)
    r = torch.nn.functional.one_hot(torch.arange(100) % 6, 6).double()
    gate = SoftmaxGate(6, 60)
    gate.maximise(x, r)
    assert torch.isfinite(gate.coefficients).all()
    assert "separates its components" in gate.separations(x, r)[0]


def test_frozen_coefficients_stay() -> None:
    x, r = inputs(30), responsibilities(30, K)
    gate = SoftmaxGate(K, 2)
    gate.coefficients_estimate.requires_grad_(False)
    gate.maximise(x, r)
    assert not gate.coefficients.any()


def test_one_component_has_weight_one() -> None:
    x, gate = inputs(5), SoftmaxGate(1, 2)
    gate.maximise(x, torch.ones(5, 1).double())
    assert torch.equal(gate.weights(x), torch.ones(5, 1).double())
    assert gate.separations(x, torch.ones(5, 1).double()) == []


def test_an_empty_component_is_named() -> None:
    x, r = inputs(30), responsibilities(30, 3)
    r[:, 2] = 0.0
    gate = SoftmaxGate(3, 2)
    gate.maximise(x, r)
    assert gate.separations(x, r) == ["component 2 has lost all objects"]


def test_it_is_the_neural_gate_of_a_linear_network() -> None:
    x, gate = inputs(8), SoftmaxGate(2, 2)
    linear = torch.nn.Linear(2, 2).double()
    with torch.no_grad():
        gate.coefficients.copy_(torch.tensor([[0.5, -1.0, 2.0]]))
        linear.weight.copy_(torch.tensor([[0.0, 0.0], [-1.0, 2.0]]))
        linear.bias.copy_(torch.tensor([0.0, 0.5]))
    torch.testing.assert_close(gate.weights(x), NeuralGate(2, linear).weights(x))


@pytest.mark.usefixtures("bad_arguments")
def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="`n_features` must be at least 0; got -1"):
        SoftmaxGate(2, -1)
    with pytest.raises(ValueError, match=r"`x` must have shape \[N, 1\].*got \[8, 2\]"):
        SoftmaxGate(2, 1).weights(inputs(8))
