"""One step of SVI with conjugate updates beside the closed forms."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, TraceEnum_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor

from mixpyro import (
    ConjugateSVI,
    DirichletGate,
    MarginalObjectDirichletGate,
    ObjectDirichletGate,
    RobbinsMonro,
    expected_weights,
)
from mixpyro.gates.conjugate import ConjugateGate
from tests.gates.contract import learn
from tests.problems import responsibilities
from tests.programs.known_means import GATES, K, Means, N


@pytest.fixture(params=GATES)
def program(request: pytest.FixtureRequest) -> Means:
    """Make the program with each gate in turn."""
    return Means(GATES[request.param]())


def test_the_loss_is_minus_the_bound_and_the_responsibilities_are_exact(program: Means) -> None:
    svi, log_joint = program.svi(), program.log_joint()
    bound = log_joint.logsumexp(-1).sum() - program.gate.kl_divergence()
    assert svi.evaluate_loss() == pytest.approx(-bound.item(), abs=1e-10)
    assert svi.evaluate_loss() == svi.evaluate_loss()
    torch.testing.assert_close(svi.responsibilities()[0], log_joint.softmax(-1), rtol=0, atol=1e-12)
    with expected_weights(program.gate):
        elbo = TraceEnum_ELBO(max_plate_nesting=1)
        marginals = elbo.compute_marginals(program.model, program.guide)["gate.assignment"]
    torch.testing.assert_close(marginals.probs, log_joint.softmax(-1), rtol=0, atol=1e-12)


def test_a_step_is_the_update_of_the_gate(program: Means) -> None:
    expected = updated_buffers(program)
    svi = program.svi()
    loss = svi.evaluate_loss()
    assert svi.step() == pytest.approx(loss, abs=1e-12)
    for name, value in expected.items():
        torch.testing.assert_close(getattr(program.gate, name), value)
    assert svi.evaluate_loss() < loss + 1e-12


def updated_buffers(program: Means) -> dict[str, Tensor]:
    """Return the buffers that the gate's own update gives; none for a gate without a posterior."""
    gate = program.gate
    if not isinstance(gate, ConjugateGate):
        return {}
    start = gate.state()
    gate.update(gate.statistics(program.x, program.log_joint().softmax(-1)))
    found = {name: value.clone() for name, value in gate.named_buffers() if name.startswith("posterior")}
    gate.hold(start)
    return found


@pytest.mark.parametrize("name", ["learnt prior", "learnt mean", "softmax", "neural"])
def test_gradients_of_the_gates_parameters_are_those_of_the_bound(name: str) -> None:
    program = Means(GATES[name]())
    gate = program.gate
    r = program.log_joint().softmax(-1)
    names, parameters = zip(*gate.named_parameters(), strict=True)
    expected = torch.autograd.grad(gate.partial_bound(program.x, r), parameters)
    with expected_weights(gate):
        loss = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(program.model, program.guide)
    for found, wanted in zip(torch.autograd.grad(loss, parameters), expected, strict=True):
        torch.testing.assert_close(found, -wanted)


def test_statistics_are_right_under_subsamples_scales_and_particles() -> None:
    """Each changes the weight of an object in the bound, or how often the program runs."""
    program = Means(DirichletGate(K, concentration=0.7))
    gate, r = program.gate, program.log_joint().softmax(-1)
    seen = torch.tensor([2, 7, 4])
    elbo: dict[str, Any] = {"max_plate_nesting": 1}

    def check(model: Callable[..., None], counts: Tensor, *args: Tensor, **particles: Any) -> None:
        learn(gate, program.x, responsibilities(N, K))
        loss, optim = TraceEnum_ELBO(**elbo, **particles), ClippedAdam({})
        ConjugateSVI(model, lambda *_: None, optim, loss, gates=gate, step_size=1.0).step(*args)
        torch.testing.assert_close(gate.posterior_concentration, 0.7 + counts)

    check(program.model, 4.0 * r[seen].sum(0), seen)
    check(poutine.scale(program.model, scale=1.0 / N), r.sum(0))
    check(program.model, r.sum(0), num_particles=3)
    check(program.model, r.sum(0), num_particles=3, vectorize_particles=True)


def test_a_gate_with_a_posterior_of_each_object_changes_those_of_the_subsample_only() -> None:
    program = Means(ObjectDirichletGate(K, concentration=2.0))
    before, r = program.gate.posterior_concentration.clone(), program.log_joint().softmax(-1)
    seen = torch.tensor([2, 7, 4])
    program.svi().step(seen)
    after = program.gate.posterior_concentration
    torch.testing.assert_close(after[seen], 2.0 / K + r[seen])
    untouched = torch.ones(N, dtype=torch.bool).index_fill(0, seen, False)
    assert torch.equal(after[untouched], before[untouched])
    fresh = Means(ObjectDirichletGate(K, concentration=2.0))
    fresh.gate.posterior_concentration = fresh.gate.posterior_concentration[:0]
    fresh.svi().step(seen)
    assert len(fresh.gate.posterior_concentration) == N


def test_the_learnt_mean_of_the_marginal_gate_goes_part_of_the_way_to_that_of_a_batch() -> None:
    program = Means(MarginalObjectDirichletGate(K, learn_mean=True))
    r, before = program.log_joint().softmax(-1), program.gate.mean.clone()
    program.svi(step_size=0.25).step(torch.arange(4))
    torch.testing.assert_close(program.gate.mean, torch.lerp(before, r[:4].mean(0), 0.25))


def test_steps_are_full_on_all_data_and_robbins_monro_on_a_subsample() -> None:
    program = Means(DirichletGate(K, concentration=0.7))
    svi, r, seen = program.svi(), program.log_joint().softmax(-1), torch.arange(3)
    before = program.gate.posterior_concentration.clone()
    svi.step(seen)
    optimum = 0.7 + 4.0 * r[:3].sum(0)
    torch.testing.assert_close(program.gate.posterior_concentration, torch.lerp(before, optimum, 2.0**-0.7))
    r = program.log_joint().softmax(-1)
    svi.step()
    torch.testing.assert_close(program.gate.posterior_concentration, 0.7 + r.sum(0))
    assert [RobbinsMonro(delay=3.0, decay=1.0)(t) for t in (1, 2)] == [0.25, 0.2]


def test_given_assignments_become_the_responsibilities() -> None:
    program, z = Means(DirichletGate(K, concentration=0.7)), torch.arange(N) % K
    program.model = poutine.condition(program.model, data={"gate.assignment": z})  # type: ignore[method-assign]
    program.svi().step()
    torch.testing.assert_close(program.gate.posterior_concentration, torch.full((K,), 0.7 + N / K).double())


def test_it_is_an_svi_of_pyro() -> None:
    assert isinstance(Means(DirichletGate(K)).svi(), SVI)
