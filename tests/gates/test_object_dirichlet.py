"""The per-object gate under the mean field."""

import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor

from mixpyro import expected_weights
from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.gates import MarginalObjectDirichletGate, ObjectDirichletGate
from tests.gates.contract import K, LatentWeightsContract
from tests.problems import inputs, responsibilities


class TestObjectDirichletGate(LatentWeightsContract):
    """The contract."""

    def make(self, n_components: int = K) -> ObjectDirichletGate:
        return ObjectDirichletGate(n_components, concentration=2.0)


def test_the_posterior_is_the_prior_plus_the_objects_own_responsibilities() -> None:
    gate = ObjectDirichletGate(2, concentration=4.0, mean=[3.0, 1.0])
    x, r = inputs(5), responsibilities(5, 2)
    gate.update(gate.statistics(x, r))
    torch.testing.assert_close(gate.posterior_concentration, torch.tensor([3.0, 1.0]).double() + r)


def test_unseen_objects_have_the_populations_weights() -> None:
    gate = ObjectDirichletGate(2, mean=[3.0, 1.0])
    gate.update(gate.statistics(inputs(5), responsibilities(5, 2)))
    torch.testing.assert_close(gate.weights(inputs(4)), torch.tensor([[0.75, 0.25]]).double().expand(4, 2))


def test_objects_can_be_named() -> None:
    gate, x = ObjectDirichletGate(2), inputs(6)
    gate.update(gate.statistics(x, responsibilities(6, 2)))
    chosen = torch.tensor([4, 0])
    everyone = slice(None)
    torch.testing.assert_close(gate.weights(x[chosen], objects=chosen), gate.weights(x, objects=everyone)[chosen])
    torch.testing.assert_close(
        gate.expected_log_weights(x[1:3], objects=slice(1, 3)), gate.expected_log_weights(x, objects=everyone)[1:3]
    )


@pytest.mark.parametrize("n_objects", [4, 5, 6])
def test_rows_are_new_objects_however_many_they_are(n_objects: int) -> None:
    gate = ObjectDirichletGate(2, mean=[3.0, 1.0])
    gate.update(gate.statistics(inputs(5), responsibilities(5, 2)))
    new = torch.tensor([[0.75, 0.25]]).double()
    torch.testing.assert_close(gate.weights(inputs(n_objects)), new.expand(n_objects, 2))
    torch.testing.assert_close(
        gate.expected_log_weights(inputs(n_objects)),
        ObjectDirichletGate(2, mean=[3.0, 1.0]).expected_log_weights(inputs(1)),
    )


def test_objects_that_are_not_there_are_refused() -> None:
    gate, x, r = ObjectDirichletGate(2), inputs(5), responsibilities(5, 2)
    with pytest.raises(ValueError, match=r"`objects` must name one object of the last update a row, 5; got 0"):
        gate.partial_bound(x, r)
    gate.update(gate.statistics(x[:1], r[:1]))
    with pytest.raises(ValueError, match="a row, 5; got 1"):
        gate.partial_bound(x, r)


def test_a_subsampled_plate_sees_its_own_objects() -> None:
    gate, x = ObjectDirichletGate(2, concentration=1.0), inputs(6)
    gate.update(gate.statistics(x, torch.eye(2).double().repeat(3, 1) * 1e6))
    plate = pyro.plate("objects", 6, subsample=torch.tensor([1, 4]), dim=-1)
    trace = poutine.trace(gate.guide).get_trace(x[plate.indices], plate=plate)
    torch.testing.assert_close(trace.nodes["gate.weights"]["value"], torch.eye(2).double()[[1, 0]], rtol=0, atol=1e-4)


def test_gamma_keeps_its_digits() -> None:
    assert ObjectDirichletGate(2, concentration=0.3).concentration.item() == 0.3


def fixed_point(gate: ObjectDirichletGate) -> Tensor:
    """Responsibilities of one object with log likelihoods 0.3, 0, −0.1 after many E-steps."""
    log_likelihood, x = torch.tensor([[0.3, 0.0, -0.1]], dtype=torch.float64), torch.zeros(1, 0, dtype=torch.float64)
    r = log_likelihood.softmax(-1)
    for _ in range(1500):
        gate.update(gate.statistics(x, r))
        r = (gate.expected_log_weights(x, objects=slice(None)) + log_likelihood).softmax(-1)
    return r[0]


@pytest.mark.parametrize(
    ("gamma", "expected"), [(10.0, [0.425, 0.303, 0.272]), (1.0, [0.88, 0.07, 0.06]), (0.1, [1.0, 0.0, 0.0])]
)
def test_the_mean_field_reinforces_itself_and_the_exact_treatment_does_not(gamma: float, expected: list[float]) -> None:
    mean_field = fixed_point(ObjectDirichletGate(3, concentration=gamma))
    torch.testing.assert_close(mean_field, torch.tensor(expected).double(), rtol=0, atol=6e-3)
    exact = fixed_point(MarginalObjectDirichletGate(3, concentration=gamma))
    torch.testing.assert_close(exact, torch.tensor([0.415, 0.307, 0.278]).double(), rtol=0, atol=5e-4)


def test_svi_learns_the_mean() -> None:
    """Objects whose weights scatter around μ: the mean field's own stationary point, found by fixed-point steps."""
    x, r = inputs(400), torch.distributions.Dirichlet(torch.tensor([6.0, 3.0, 1.0]).double()).sample((400,))
    gate = ObjectDirichletGate(3, concentration=5.0, learn_mean=True)
    m_step = MStep(gate)
    gate.update(gate.statistics(x, r))
    for _ in range(10):
        m_step.improve(x, r, n_steps=30)
    mean = gate.mean.detach().requires_grad_()
    target = gate.expected_log_weights(x, objects=slice(None)).mean(0)
    stationary = torch.digamma(5.0 * mean) - target
    # The gradient along the simplex is zero: all partial derivatives agree.
    torch.testing.assert_close(stationary, stationary.mean().expand(3), rtol=0, atol=1e-3)
    torch.testing.assert_close(mean.sum(), torch.ones(()).double())


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"concentration": 0.0}, ValueError, "`concentration` must be finite and above 0; got 0.0"),
        ({"concentration": "much"}, TypeError, "`concentration` must be a number; got 'much'"),
        ({"mean": [1.0, 2.0, 3.0]}, ValueError, r"`mean` must be .* length 2; got shape \[3\]"),
        ({"mean": [1.0, -1.0]}, ValueError, "`mean` must be finite and above 0"),
    ],
)
def test_bad_priors_are_refused(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ObjectDirichletGate(2, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [ObjectDirichletGate, MarginalObjectDirichletGate])
def test_with_its_weights_integrated_out_a_guide_takes_a_plate_of_other_objects(
    kind: type[ObjectDirichletGate],
) -> None:
    """A user's guide may call the gate's in any program; then it samples nothing, and asks for no objects."""
    gate, x = kind(2), inputs(5)
    gate.update(gate.statistics(x, responsibilities(5, 2)))
    plate = pyro.plate("objects", 100, subsample=torch.arange(5), dim=-1)
    with expected_weights(gate):
        assert gate.latent_sites[0] not in poutine.trace(gate.guide).get_trace(x, plate=plate).nodes


def test_a_marginal_gate_has_no_weights_in_a_plate_of_other_objects() -> None:
    gate, x = MarginalObjectDirichletGate(2), inputs(5)
    gate.update(gate.statistics(x, responsibilities(5, 2)))
    plate = pyro.plate("objects", 100, subsample=torch.arange(5), dim=-1)
    names = set(poutine.trace(gate.guide).get_trace(x, plate=plate).nodes)
    assert not any(name.startswith("gate.") for name in names)
