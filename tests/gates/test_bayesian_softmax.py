"""The gate with a posterior of a multinomial regression's coefficients."""

import copy
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixpyro import (
    BayesianSoftmaxGate,
    ConjugateSVI,
    DirichletGate,
    LinearExperts,
    MixtureOfExperts,
    SoftmaxGate,
    coefficients,
    fit,
    fit_minibatches,
    linear_response,
    load,
    polish,
    refine,
    save,
)
from mixpyro.gates import Gate
from tests.gates.bayesian_contract import BayesianLogitContract
from tests.gates.contract import K
from tests.gates.exact_softmax import exact, problem
from tests.problems import inputs, responsibilities


class TestBayesianSoftmaxGate(BayesianLogitContract):
    """By the tilted bound."""

    def make(self, n_components: int = K) -> Gate:
        return BayesianSoftmaxGate(n_components, 2)


class TestByQuadrature(BayesianLogitContract):
    """By fixed nodes: the derivatives are those of the integral."""

    gradient_at_maximum = 1e-2
    n_batches = 150

    def make(self, n_components: int = K) -> Gate:
        return BayesianSoftmaxGate(n_components, 2, quadrature=True)


@pytest.mark.parametrize("quadrature", [False, True])
@pytest.mark.parametrize("number", [0, 2])
def test_the_posterior_is_near_the_exact_one(number: int, quadrature: bool) -> None:
    """All six problems, and their numbers, are in tests/benchmarks/bayesian_gate.py."""
    x, r = problem(number)
    gate = BayesianSoftmaxGate(3, x.shape[1], prior_scale=3.0, symmetric_prior=False, quadrature=quadrature)
    gate.maximise(x, r, n_steps=15)
    q = gate.posterior
    truth = exact(x, r, q.mean[0], q.covariance[0], 3.0)
    assert truth.n_effective > 5000
    assert ((q.mean[0] - truth.mean) / truth.deviation).abs().max() < 0.05
    torch.testing.assert_close(q.covariance[0].diagonal().sqrt(), truth.deviation, rtol=0.1, atol=0)
    assert -0.01 < truth.log_evidence - float(gate.partial_bound(x, r)) < 0.15
    at_15 = float(gate.partial_bound(x, r))
    gate.maximise(x, r, n_steps=50)
    assert float(gate.partial_bound(x, r)) - at_15 < 1e-5


def test_two_components_have_the_evidence_of_a_grid() -> None:
    torch.manual_seed(0)
    x = torch.randn(60, 1).double()
    z = (torch.rand(60) < torch.sigmoid(2.0 * x[:, 0])).double()
    r = torch.stack([1 - z, z], dim=1)
    gate = BayesianSoftmaxGate(2, 1, prior_scale=3.0, symmetric_prior=False)
    gate.maximise(x, r)
    grid = torch.linspace(-12.0, 12.0, 801).double()
    logits = grid[:, None, None] + grid[None, :, None] * x[:, 0]
    log_likelihood = (z * logits - torch.nn.functional.softplus(logits)).sum(-1)
    log_prior = torch.distributions.Normal(0.0, 3.0).log_prob(grid)
    log_joint = log_likelihood + log_prior[:, None] + log_prior
    evidence = float(log_joint.flatten().logsumexp(0)) + 2.0 * float((grid[1] - grid[0]).log())
    assert 0.0 < evidence - float(gate.partial_bound(x, r)) < 0.03


def test_a_wide_prior_leads_to_maximum_likelihood() -> None:
    """Many rows: the posterior is narrow, and its mean is the estimate."""
    x, r = problem(5)
    r = 0.9 * r + 0.02  # the estimate is finite
    x, r = x.repeat(20, 1), r.repeat(20, 1)
    gate, estimate = BayesianSoftmaxGate(5, 2, prior_scale=1e4), SoftmaxGate(5, 2)
    gate.maximise(x, r, n_steps=50)
    estimate.maximise(x, r)
    torch.testing.assert_close(gate.coefficients, estimate.coefficients, rtol=0, atol=5e-3)
    torch.testing.assert_close(
        gate.covariance.diagonal().sqrt().reshape(4, 3), estimate.standard_errors(x, r), rtol=1e-2, atol=0
    )


@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[1:])
def test_the_symmetric_prior_has_no_reference(order: tuple[int, ...]) -> None:
    x, r = problem(0)
    gate, other = (BayesianSoftmaxGate(3, 1) for _ in range(2))
    gate.maximise(x, r, n_steps=60)
    other.maximise(x, r[:, list(order)], n_steps=60)
    assert float(other.partial_bound(x, r[:, list(order)])) == pytest.approx(float(gate.partial_bound(x, r)), abs=1e-6)
    torch.testing.assert_close(other.weights(x), gate.weights(x)[:, list(order)], rtol=0, atol=1e-4)


def test_the_prior_against_a_reference_has_one() -> None:
    assert BayesianSoftmaxGate(3, 1).prior_kinds == [(), (), ()]
    assert len(set(BayesianSoftmaxGate(3, 1, symmetric_prior=False).prior_kinds)) == 2


def crossing(n_objects: int = 150) -> tuple[Tensor, Tensor]:
    """Two lines, one of which becomes likelier with x."""
    torch.manual_seed(1)
    x = 4.0 * torch.rand(n_objects, 1).double() - 2.0
    z = torch.rand(n_objects, 1) < torch.sigmoid(2.0 * x)
    return x, torch.where(z, 1.0 + 2.0 * x, -1.0 - x) + 0.3 * torch.randn(n_objects, 1).double()


def make(n_components: int = 2, **arguments: Any) -> MixtureOfExperts:
    return MixtureOfExperts(BayesianSoftmaxGate(n_components, 1, **arguments), LinearExperts(n_components, 1))


@pytest.mark.parametrize(("n_components", "quadrature"), [(2, False), (3, False), (3, True)])
@pytest.mark.usefixtures("without_type_checks")
def test_no_iteration_of_a_fit_lowers_the_bound(n_components: int, quadrature: bool) -> None:
    x, y = crossing(80)
    result = fit(make(n_components, quadrature=quadrature), x, y, n_restarts=4, max_iterations=40, progress=False)
    for run in result.runs:
        assert all(after >= before - 1e-9 for before, after in itertools.pairwise(run.trace))
    assert float(result.mixture.bound(x, y)) == pytest.approx(result.bound, abs=1e-8)


def test_one_component_is_that_of_any_gate() -> None:
    x, y = crossing(40)
    one = fit(make(1), x, y, progress=False)
    other = fit(MixtureOfExperts(DirichletGate(1), LinearExperts(1, 1)), x, y, progress=False)
    assert one.bound == pytest.approx(other.bound, abs=1e-9)
    assert list(coefficients(one, x, y)) == list(coefficients(other, x, y))


def test_minibatches_come_near_the_fit_of_all_rows() -> None:
    x, y = crossing(300)
    whole = fit(make(), x, y, n_restarts=3, progress=False)
    part = fit_minibatches(make(), x, y, batch_size=100, n_restarts=3, n_epochs=20, progress=False)
    assert whole.bound - 0.05 < part.bound <= whole.bound + 1e-6


def test_linear_response_has_the_exact_deviations_where_components_are_known() -> None:
    """Known components leave the gate alone: its posterior by importance sampling."""
    x, r = problem(1)
    z = r.argmax(1)
    y = 10.0 * z.double().unsqueeze(1) + torch.randn(len(z), 1).double()
    mixture = MixtureOfExperts(BayesianSoftmaxGate(3, 1, prior_scale=3.0, symmetric_prior=False), LinearExperts(3, 1))
    result = fit(mixture, x, y, observed=z, n_restarts=1, progress=False)
    response = linear_response(result, x, y)
    q = mixture.gate.posterior
    truth = exact(x, r, q.mean[0], q.covariance[0], 3.0)
    ratio = response.standard_deviations[:4] / truth.deviation
    own = q.covariance[0].diagonal().sqrt() / truth.deviation
    assert own.min() < 0.92  # that of q itself is too narrow here
    assert ((ratio - 1.0).abs() < 0.1).all()
    assert response.names[1] == "gate: component 1 against 0, x0"


def test_draws_are_reweighted_towards_the_posterior() -> None:
    x, y = crossing()
    result = fit(make(), x, y, n_restarts=3, progress=False)
    refined = refine(result, x, y)
    draws = refined.samples["gate.coefficients"]
    assert draws.shape[-2:] == (1, 2)
    assert bool(draws.isfinite().all())


@pytest.mark.usefixtures("without_type_checks")
def test_polish_reports_the_closer_bound() -> None:
    x, y = crossing(80)
    result = fit(make(3), x, y, n_restarts=4, progress=False)
    state = copy.deepcopy(result.mixture.state_dict())
    polished = polish(result, x, y)
    assert polished.bound > result.bound
    assert polished.bound == pytest.approx(float(polished.mixture.bound(x, y)), abs=1e-8)
    assert polished.mixture.gate.quadrature
    assert not result.mixture.gate.quadrature
    assert all(torch.equal(value, state[name]) for name, value in result.mixture.state_dict().items())
    with pytest.raises(TypeError, match="must be a fit with a BayesianSoftmaxGate; got a DirichletGate"):
        polish(fit(MixtureOfExperts(DirichletGate(1), LinearExperts(1, 1)), x, y, progress=False), x, y)


def test_polish_says_where_no_step_raises_the_bound() -> None:
    """Of six components the quadrature's derivatives are approximate."""
    torch.manual_seed(0)
    x = torch.rand(90, 1).double() * 4 - 2
    z = ((x + 2 + 0.6 * torch.randn(90, 1)) / 4 * 6).long().clamp(0, 5)
    y = 3 * torch.randn(6).double()[z] + torch.randn(6).double()[z] * x + 0.3 * torch.randn(90, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = fit(make(6), x, y, n_restarts=2, max_iterations=100, progress=False)
        polished = polish(result, x, y, max_iterations=40)
    trace, gate = polished.runs[0].trace, polished.mixture.gate
    assert isinstance(gate, BayesianSoftmaxGate)
    assert all(after >= before - 1e-9 for before, after in itertools.pairwise(trace))
    before = gate.posterior
    gate.maximise(x, polished.responsibilities, n_steps=1)
    stays = all(torch.equal(a, b) for a, b in zip(gate.posterior, before, strict=True))
    target = before.kl(gate.updated(gate.statistics(x, polished.responsibilities), before))
    is_stuck = stays and float(target) > 1e-6
    assert is_stuck  # else the problem tests nothing
    assert not polished.converged
    assert "no step there raises the bound" in polished.cautions[0]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "float32": lambda: nn.Sequential(nn.Linear(1, 4), nn.Tanh()),
    "with buffers": lambda: nn.Sequential(nn.Linear(1, 3), nn.BatchNorm1d(3)).double(),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_features_of_a_network_are_columns(name: str, tmp_path: Any) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    before = copy.deepcopy(network.state_dict())
    x = torch.linspace(-2, 2, 90).double().unsqueeze(1)
    y = torch.where(x.abs() < 1, 1 + x, -1 - x) + 0.1 * torch.sin(40 * x)
    mixture = make(features=network, prior_scale=50.0)
    result = fit(mixture.train(), x, y, n_restarts=2, progress=False)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert next(network.parameters()).requires_grad
    assert network.training
    assert not mixture.gate.is_estimated
    assert "gate: component 1 against 0, feature 2" in coefficients(result, x, y)
    save(mixture, tmp_path / "file")
    loaded = load(tmp_path / "file", networks={"gate.features": NETWORKS[name]()})
    assert torch.equal(loaded.predict(x), mixture.predict(x))
    # The same as a gate that is given the columns.
    columns = mixture.gate.design(x)[:, 1:]
    by_hand = BayesianSoftmaxGate(2, columns.shape[1], prior_scale=50.0)
    r = responsibilities(90, 2)
    by_hand.maximise(columns, r)
    gate = mixture.gate
    assert isinstance(gate, BayesianSoftmaxGate)
    gate.forget()
    gate.maximise(x, r)
    torch.testing.assert_close(by_hand.weights(columns), mixture.gate.weights(x))


@pytest.mark.usefixtures("bad_arguments")
def test_features_must_be_a_network_of_rows() -> None:
    with pytest.raises(TypeError, match=r"`features` must be a torch\.nn\.Module; got int"):
        BayesianSoftmaxGate(2, 1, features=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`features` must return \[N, columns\]"):
        BayesianSoftmaxGate(2, 1, features=nn.Flatten(0))


def test_conjugate_svi_reaches_the_gates_maximum() -> None:
    import pyro
    from pyro.distributions import Normal
    from pyro.infer import TraceEnum_ELBO
    from pyro.optim import ClippedAdam

    x = inputs(60)
    z = (torch.arange(60) % 3).double()
    gate = BayesianSoftmaxGate(3, 2)

    def model() -> None:
        plate = pyro.plate("objects", 60, dim=-1)
        assignment = gate.model(x, plate=plate)
        with plate:
            pyro.sample("y", Normal(100.0 * assignment.double(), 1.0), obs=100.0 * z)

    svi = ConjugateSVI(model, lambda: None, ClippedAdam({"lr": 0.01}), TraceEnum_ELBO(max_plate_nesting=1), gates=gate)
    for _ in range(30):
        svi.step()
    other = BayesianSoftmaxGate(3, 2)
    other.maximise(x, torch.nn.functional.one_hot(z.long(), 3).double(), n_steps=60)
    torch.testing.assert_close(gate.coefficients, other.coefficients, rtol=0, atol=1e-3)


def test_a_prior_that_outweighs_the_data_is_warned_of() -> None:
    """In thousandths of the unit of x its coefficients should be thousands; the default prior says two."""
    x, y = crossing(300)
    with pytest.warns(RuntimeWarning, match="the prior says more of the gate's coefficients than the data do"):
        fit(make(), x, y, gate_x=1e-3 * x, n_restarts=2, progress=False)
    fit(make(), x, y, n_restarts=2, progress=False)  # a warning would be an error
