"""What SVI with conjugate updates refuses, and that nothing has changed then."""

import copy
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import JitTraceEnum_ELBO, Trace_ELBO, TraceEnum_ELBO
from pyro.optim import ClippedAdam

from mixpyro import ConjugateSVI, DirichletGate, RobbinsMonro, SoftmaxGate
from tests.problems import in_plate, responsibilities
from tests.programs.known_means import GATES, K, Means, N


def test_a_likelihood_that_is_not_finite_changes_nothing() -> None:
    program = Means(DirichletGate(K))
    before = program.gate.posterior_concentration.clone()
    program.y = program.y * torch.nan
    svi = program.svi()
    with pyro.validation_enabled(True), pytest.raises(ValueError, match=r"y|finite"):
        svi.step()
    assert torch.equal(program.gate.posterior_concentration, before)
    assert svi.n_steps == 0


@pytest.mark.filterwarnings("ignore:Encountered")
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_without_validation_a_loss_that_is_not_finite_changes_nothing(value: float) -> None:
    program = Means(DirichletGate(K, concentration_prior=dist.Gamma(2.0, 1.0)))
    svi = program.svi()
    svi.step()
    before = copy.deepcopy(program.gate.state_dict())
    program.y[0] = value
    with pyro.validation_enabled(False), pytest.raises(ValueError, match=r"must give a finite loss; got (nan|inf)"):
        svi.step()
    torch.testing.assert_close(program.gate.state_dict(), before, rtol=0, atol=0)
    assert svi.n_steps == 1


@pytest.mark.parametrize(
    ("name", "site"), [("dirichlet", "weights"), ("object", "weights"), ("softmax", "coefficients")]
)
@pytest.mark.parametrize("handler", [poutine.condition, poutine.do])
def test_given_weights_are_refused(name: str, site: str, handler: Callable[..., Any]) -> None:
    program = Means(GATES[name]())
    before = copy.deepcopy(program.gate.state_dict())
    program.model = handler(program.model, data={f"gate.{site}": torch.ones(K).double() / K})  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=f"whose weights are given; got a value for 'gate.{site}'"):
        program.svi().step()
    torch.testing.assert_close(program.gate.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("site", ["weights", "assignment"])
def test_a_guide_of_a_gates_sites_is_refused(site: str) -> None:
    program = Means(DirichletGate(K))
    before = program.gate.posterior_concentration.clone()

    def guide() -> None:
        if site == "weights":
            pyro.sample("gate.weights", dist.Dirichlet(torch.ones(K).double()))
        else:
            in_plate(program.gate.guide)(program.x, responsibilities=responsibilities(N, K))

    program.guide = guide  # type: ignore[method-assign, assignment]
    with pytest.raises(ValueError, match=f"`guide` must leave the sites of `gates` to the gates; got 'gate.{site}'"):
        program.svi().step()
    assert torch.equal(program.gate.posterior_concentration, before)


@pytest.mark.usefixtures("bad_arguments")
def test_bad_arguments_are_refused() -> None:
    program, optim = Means(DirichletGate(K)), ClippedAdam({})
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    for loss in (Trace_ELBO(), JitTraceEnum_ELBO()):
        with pytest.raises(TypeError, match=f"`loss` must be a TraceEnum_ELBO.*got {type(loss).__name__}"):
            ConjugateSVI(program.model, program.guide, optim, loss, gates=program.gate)  # type: ignore[arg-type]
    for gates in ([], None, [program.model]):
        with pytest.raises(TypeError, match="`gates` must be a mixpyro Gate or a sequence"):
            ConjugateSVI(program.model, program.guide, optim, elbo, gates=gates)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`gates` must differ"):
        program.svi().__init__(program.model, program.guide, optim, elbo, gates=[program.gate] * 2)  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"`optim` must be an optimiser of pyro.optim; got str"):
        ConjugateSVI(program.model, program.guide, "adam", elbo, gates=program.gate)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`step_size` must be in \(0, 1\]; got 2"):
        program.svi(step_size=2.0)
    with pytest.raises(ValueError, match=r"`decay` must be above 0.5 and at most 1; got 0.4"):
        RobbinsMonro(decay=0.4)
    program = Means(SoftmaxGate(K, 2))
    stranger = ConjugateSVI(program.model, program.guide, optim, elbo, gates=DirichletGate(K, name="other"))
    with pytest.raises(
        RuntimeError, match=r"call the model of a gate in `gates`.*got no evidence on 'other.assignment'"
    ):
        stranger.step()
