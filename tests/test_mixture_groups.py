"""The Pyro program of a mixture whose rows share a component within groups."""

from typing import Any

import pyro
import pytest
import torch
from pyro.infer import MCMC, NUTS, Predictive, TraceEnum_ELBO, config_enumerate
from pyro.infer.mcmc.util import initialize_model
from pyro.optim import ClippedAdam
from torch import Tensor

from mixpyro import ConjugateSVI, DirichletGate, HeterogeneousExperts, MixtureOfExperts
from mixpyro.diagnostics.draws import evaluate
from mixpyro.diagnostics.observations import Observations
from mixpyro.experts.conjugate import ConjugateExperts
from tests.gates.contract import learn
from tests.grouped_fits import MIXTURES, N_GROUPS, Problem, fitted, problem
from tests.problems import in_plate, responsibilities

pytestmark = [
    pytest.mark.usefixtures("without_type_checks"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
ELBO = TraceEnum_ELBO(max_plate_nesting=1)
EVERYONE = slice(None)


def updated(name: str) -> tuple[MixtureOfExperts, Problem, Tensor]:
    """A mixture right after an update of every part, with its rows and the responsibilities of their groups."""
    mixture, own = MIXTURES[name](), problem(counts="counts" in name)
    r = responsibilities(N_GROUPS, 2)
    learn(mixture.gate, mixture.gate.inputs_of_groups(gate_inputs(name, own), own.groups), r)
    if isinstance(mixture.experts, ConjugateExperts | HeterogeneousExperts):
        mixture.experts.update(mixture.experts.statistics(own.x, own.y, own.groups.spread(r)))
    return mixture, own, r


def gate_inputs(name: str, own: Problem) -> Tensor:
    """What the gate reads of the rows."""
    return own.gate_x if "softmax" in name else own.x


@pytest.mark.parametrize("name", MIXTURES)
def test_one_evaluation_of_the_joint_elbo_equals_the_bound(name: str) -> None:
    """The bound at given responsibilities, right after an update: no sample of parameters makes a difference."""
    mixture, own, r = updated(name)
    gate_x = own.gate_x if "softmax" in name else None
    of_groups = mixture.gate.inputs_of_groups(gate_inputs(name, own), own.groups)

    def guide(x: Tensor, y: Tensor, **_: object) -> None:
        mixture.experts.guide(x)
        in_plate(mixture.gate.guide)(of_groups, responsibilities=r, objects=EVERYONE)

    given: dict[str, Any] = {"gate_x": gate_x, "groups": own.ids}
    elbo = -ELBO.loss(mixture.model, guide, own.x, own.y, **given)
    with torch.no_grad():
        log_joint = mixture.expected_log_joint(own.x, own.y, objects=EVERYONE, **given)
        closed = (r * log_joint).sum() - torch.xlogy(r, r).sum() - mixture.kl_divergence()
    assert abs(elbo - closed.item()) < 1e-10
    draws = [-ELBO.loss(mixture.model, mixture.guide, own.x, own.y, objects=EVERYONE, **given) for _ in range(12)]
    spread = torch.tensor(draws, dtype=torch.float64)
    bound = mixture.bound(own.x, own.y, objects=EVERYONE, **given)
    assert abs(spread.mean() - bound) < 4 * spread.std() / 12**0.5 + 1e-10


@pytest.mark.parametrize("name", [name for name in MIXTURES if "own" not in name])
def test_the_density_that_nuts_sees_sums_one_assignment_of_each_group_out(name: str) -> None:
    mixture, own, _ = updated(name)
    gate_x = own.gate_x if "softmax" in name else None
    given: dict[str, Any] = {"y": own.y, "gate_x": gate_x, "groups": own.ids}
    start, potential, transforms, _ = initialize_model(
        mixture.model, model_args=(own.x,), model_kwargs=given, max_plate_nesting=1
    )
    values = {site: transforms[site].inv(free) for site, free in start.items()}
    jacobians = sum(float(transforms[site].log_abs_det_jacobian(values[site], start[site]).sum()) for site in start)
    data = Observations.checked(mixture, own.x, own.y, gate_x, own.ids)
    found = evaluate(data, {site: value.unsqueeze(0) for site, value in values.items()}, 1)
    with torch.no_grad():
        expected = found.log_likelihood.sum() + found.log_prior.sum() - jacobians
        assert abs(float(-potential(start) - expected)) < 1e-9


def test_nuts_and_predictive_run_with_groups() -> None:
    case = fitted("dirichlet, lines", max_iterations=20, tolerance=1e-3)
    own, mixture = case.problem, case.result.mixture
    kernel = NUTS(mixture.model, max_plate_nesting=1, max_tree_depth=3)
    mcmc = MCMC(kernel, num_samples=3, warmup_steps=2, disable_progbar=True)
    mcmc.run(own.x, own.y, groups=own.ids)
    samples = mcmc.get_samples()
    assert samples["gate.weights"].shape == (3, 2)
    drawn = Predictive(mixture.model, posterior_samples=samples)(own.x, groups=own.ids)
    assert drawn["experts.y"].shape == (3, len(own.x), 1)
    assert drawn["gate.assignment"].shape == (3, N_GROUPS)
    by_guide = Predictive(mixture.model, guide=mixture.guide, num_samples=4)(own.x, groups=own.ids)
    assert by_guide["experts.y"].shape == (4, len(own.x), 1)


def test_rows_of_a_group_are_drawn_from_one_component() -> None:
    mixture, own, _ = updated("dirichlet, density")
    far = torch.tensor([[-100.0], [100.0]]).double()
    model = pyro.poutine.condition(mixture.model, {"experts.mean": far})
    drawn = pyro.poutine.trace(model).get_trace(own.x, groups=own.ids)
    nodes: dict[str, Any] = dict(drawn.nodes)
    z, y = nodes["gate.assignment"]["value"], nodes["experts.y"]["value"]
    assert torch.equal(own.groups.spread(z) == 1, y[:, 0] > 0)


def test_conjugate_svi_counts_groups() -> None:
    """A full step on all data is an update with the responsibilities of groups."""
    case = fitted("softmax, counts", max_iterations=30)
    own = case.problem
    mixture = MixtureOfExperts(DirichletGate(2, concentration=0.7), case.result.mixture.experts)
    mixture.gate.update(mixture.gate.statistics(own.gate_x[:N_GROUPS], responsibilities(N_GROUPS, 2)))
    r = mixture.assign(own.x, own.y, groups=own.ids).responsibilities.detach()

    def guide(x: Tensor, *_: object, **__: object) -> None:
        mixture.experts.guide(x)

    svi = ConjugateSVI(config_enumerate(mixture.model), guide, ClippedAdam({"lr": 0.0}), ELBO, gates=mixture.gate)
    svi.step(own.x, own.y, groups=own.ids)
    torch.testing.assert_close(mixture.gate.posterior_concentration, 0.7 + r.sum(0))


def test_known_components_of_groups_are_observed() -> None:
    """The ELBO is that of assignments which are certain where they are known, once for a group."""
    mixture, own, r = updated("dirichlet, lines")
    observed, mask = own.groups.index % 2, own.groups.index < 7
    given: dict[str, Any] = {"groups": own.ids, "observed": observed, "mask": mask}
    known = torch.arange(N_GROUPS) < 7
    q = torch.where(known.unsqueeze(1), torch.eye(2).double()[torch.arange(N_GROUPS) % 2], r)

    def guide(x: Tensor, y: Tensor, **_: object) -> None:
        mixture.experts.guide(x)
        mixture.gate.guide_of_rows(
            own.x[own.groups.first_rows], (pyro.plate("objects", N_GROUPS, dim=-1),), responsibilities=q
        )

    mixture.gate.update(mixture.gate.statistics(own.x[:N_GROUPS], q))
    mixture.experts.update(mixture.experts.statistics(own.x, own.y, own.groups.spread(q)))
    elbo = -ELBO.loss(mixture.model, guide, own.x, own.y, **given)
    with torch.no_grad():
        log_joint = mixture.expected_log_joint(own.x, own.y, groups=own.ids)
        closed = (q * log_joint).sum() - torch.xlogy(q, q).sum() - mixture.kl_divergence()
    assert abs(elbo - closed.item()) < 1e-10
