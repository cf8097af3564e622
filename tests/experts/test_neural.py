"""Experts that are neural networks."""

import copy
import itertools

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Normal
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.nn import PyroModule, PyroSample
from pyro.optim import ClippedAdam
from torch import Tensor, nn

from mixpyro import DirichletGate, MixtureOfExperts, SoftmaxGate, fit
from mixpyro.experts import GLMExperts, NeuralExperts
from mixpyro.experts.families import Binomial, Categorical, Family, Gaussian, Poisson
from mixpyro.fitting.gradient.m_step import MStep
from tests.experts.contract import N_FEATURES, ExpertsContract, K, by_gradient
from tests.problems import inputs, lines, responsibilities

FAMILIES = [Gaussian(), Poisson(), Binomial(), Categorical(3)]


def networks(n_components: int = K, n_predictors: int = 1, n_features: int = N_FEATURES) -> nn.ModuleList:
    """Two small layers each."""
    return nn.ModuleList(
        nn.Sequential(nn.Linear(n_features, 4), nn.Tanh(), nn.Linear(4, n_predictors)).double()
        for _ in range(n_components)
    )


def targets(family: Family, x: Tensor) -> Tensor:
    """y [N, 1] of the family, related to x."""
    eta = x.sum(-1, keepdim=True).clamp(-1.5, 1.5)
    if isinstance(family, Gaussian):
        return eta + 0.3 * torch.randn_like(eta)
    if isinstance(family, Poisson):
        return torch.poisson(eta.exp())
    if isinstance(family, Binomial):
        return torch.bernoulli(eta.sigmoid())
    return torch.bernoulli(eta.sigmoid()) + torch.bernoulli((-eta).sigmoid())


def linear_experts(family: Family, **options: bool | float) -> NeuralExperts:
    """One linear layer for all components: a generalised linear model."""
    network = nn.Linear(N_FEATURES, K * family.n_predictors).double()
    return NeuralExperts(K, N_FEATURES, network, family, **options)  # type: ignore[arg-type]


def unchanged(*_: object) -> None:
    """A gradient M-step of no steps: what is left is the noise in closed form."""


class TestNeuralExperts(ExpertsContract):
    """The contract, for networks with two outputs."""

    n_outputs = 2

    def make(self, n_components: int = K) -> NeuralExperts:
        parts = networks(n_components if n_components == K else K, n_predictors=2)
        return NeuralExperts(n_components, N_FEATURES, parts, Gaussian(), n_outputs=2)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: type(family).__name__)
def test_linear_networks_by_svi_are_generalised_linear_models_by_newton(family: Family) -> None:
    x, r = inputs(60), responsibilities(60, K)
    y = targets(family, x)
    neural, glm = linear_experts(family, prior_scale=2.0), GLMExperts(K, N_FEATURES, family, prior_scale=2.0)
    glm.maximise(x, y, r, by_gradient=by_gradient)
    for _ in range(6):
        neural.maximise(x, y, r, by_gradient=by_gradient)
    difference = (neural.partial_bound(x, y, r) - glm.partial_bound(x, y, r)).item()
    assert abs(difference) < 1e-5
    torch.testing.assert_close(neural.predict(x), glm.predict(x), rtol=0, atol=1e-3)


def test_fits_of_linear_networks_and_of_generalised_linear_models_agree() -> None:
    """By EM to its end, in the mixture's log likelihood."""
    x, y, z = lines(80, 2)
    start = 0.2 + 0.6 * nn.functional.one_hot(z, 2).double()
    neural = NeuralExperts(2, 1, [nn.Linear(1, 1).double() for _ in range(2)], Gaussian())
    bounds = [
        fit(
            MixtureOfExperts(SoftmaxGate(2, 0), experts),
            x,
            y,
            gate_x=x[:, :0],
            initial_responsibilities=start,
            tolerance=1e-9,
        ).bound
        for experts in (neural, GLMExperts(2, 1, Gaussian()))
    ]
    assert abs(bounds[0] - bounds[1]) < 1e-5


def test_the_closed_form_is_the_best_noise_of_the_networks_as_they_are() -> None:
    experts = NeuralExperts(K, N_FEATURES, networks(n_predictors=2), Gaussian(), n_outputs=2)
    x, y, _ = lines(30, K, n_features=N_FEATURES, n_outputs=2)
    r = responsibilities(30, K)
    experts.maximise(x, y, r, by_gradient=unchanged)
    (gradient,) = torch.autograd.grad(experts.partial_bound(x, y, r), [experts.log_scale])
    assert gradient.shape == (K, 2)
    assert gradient.abs().max() < 1e-12
    residual = (r[:, 1] * (y[:, 1] - experts.predict(x)[:, 1, 1]).square()).sum() / r[:, 1].sum()
    torch.testing.assert_close(experts.scale[1, 1].square(), residual)


def test_a_fit_separates_two_curves() -> None:
    """From a simple start: whether y is above or below zero."""
    x = torch.linspace(-2.0, 2.0, 100, dtype=torch.float64).unsqueeze(-1)
    lower = torch.arange(100) % 2
    curves = 0.4 * x.unsqueeze(1) + torch.stack([torch.sin(2.0 * x) + 1.0, torch.cos(2.0 * x) - 1.0], dim=1)
    y = curves[torch.arange(100), lower] + 0.1 * torch.randn(100, 1).double()
    start = torch.where(y > 0.0, torch.tensor([0.8, 0.2]).double(), torch.tensor([0.2, 0.8]).double())
    assert (start.argmax(-1) != lower).sum() > 5
    experts = NeuralExperts(2, 1, networks(2, n_features=1), Gaussian(), prior_scale=3.0)
    result = fit(MixtureOfExperts(DirichletGate(2), experts), x, y, initial_responsibilities=start, tolerance=3e-3)
    assert (result.responsibilities.argmax(-1) == lower).all()
    assert (experts.predict(x) - curves).square().mean().sqrt() < 0.1
    torch.testing.assert_close(experts.scale, torch.full((2, 1), 0.1).double(), rtol=0.3, atol=0)
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(result.trace))


@pytest.mark.parametrize("prior_scale", [None, 1.5])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: type(family).__name__)
def test_the_elbo_of_the_joint_model_is_the_bound(family: Family, prior_scale: float | None) -> None:
    """The parameters are points: Pyro's ELBO with z enumerated, in the guide or in the model, has no noise."""
    x, r = inputs(25), responsibilities(25, K)
    y = targets(family, x)
    experts = NeuralExperts(K, N_FEATURES, networks(n_predictors=family.n_predictors), family, prior_scale=prior_scale)
    mixture = MixtureOfExperts(SoftmaxGate(K, N_FEATURES), experts)
    experts.maximise(x, y, r, by_gradient=unchanged)
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    bound = mixture.bound(x, y).item()
    assert -elbo.loss(mixture.model, mixture.guide, x, y) == pytest.approx(bound, abs=1e-9)
    assert -elbo.loss(mixture.model, lambda *_: None, x, y) == pytest.approx(bound, abs=1e-9)
    z = torch.arange(25) % K
    by_pyro = experts.likelihood(x, experts.guide(x), z).log_prob(y)
    torch.testing.assert_close(by_pyro, experts.expected_log_likelihood(x, y)[torch.arange(25), z])
    torch.testing.assert_close(experts.predictive(x).log_prob(y.unsqueeze(1)), experts.expected_log_likelihood(x, y))


def test_one_network_for_all_experts_and_one_each_are_the_same() -> None:
    x, parts = inputs(7), [nn.Linear(N_FEATURES, 2).double() for _ in range(K)]
    whole = nn.Linear(N_FEATURES, 2 * K).double()
    whole.weight = nn.Parameter(torch.cat([part.weight.detach() for part in parts]))
    whole.bias = nn.Parameter(torch.cat([part.bias.detach() for part in parts]))
    apart, flat, shaped = (
        NeuralExperts(K, N_FEATURES, network, Gaussian(), n_outputs=2)
        for network in (parts, whole, nn.Sequential(whole, nn.Unflatten(-1, (K, 2))))
    )
    torch.testing.assert_close(apart.predict(x), flat.predict(x))
    assert torch.equal(shaped.predict(x), flat.predict(x))


def test_the_exposure_is_kept_from_the_networks() -> None:
    experts = linear_experts(Poisson(), exposure=True)
    x = torch.cat([inputs(5), torch.ones(5, 1).double()], 1)
    tripled = x * torch.tensor([1.0, 1.0, 3.0]).double()
    torch.testing.assert_close(experts.predict(tripled), 3.0 * experts.predict(x))


def test_a_collapsed_noise_is_reported() -> None:
    x, y, _ = lines(20, 1)
    r = torch.zeros(20, 2).double()
    r[:2, 0], r[2:, 1] = 1.0, 1.0
    experts = NeuralExperts(2, 1, nn.Linear(1, 2).double(), Gaussian())
    experts.centre(x, y)
    for _ in range(8):
        experts.maximise(x, y, r, by_gradient=by_gradient)
    assert torch.isfinite(experts.partial_bound(x, y, r))
    assert experts.degeneracies(x, y, r) == ["the noise of component 0 has collapsed on 2.0 objects"]


@pytest.mark.parametrize("kind", [nn.Linear, PyroModule[nn.Linear]])
def test_frozen_parameters_stay_frozen(kind: type[nn.Linear]) -> None:
    parts = [kind(N_FEATURES, 1, dtype=torch.float64) for _ in range(K)]
    for part in parts:
        part.bias.requires_grad_(False)
    experts = NeuralExperts(K, N_FEATURES, parts, Gaussian())
    experts.log_scale.requires_grad_(False)
    before = copy.deepcopy(experts.state_dict())
    x, y, _ = lines(20, K, n_features=N_FEATURES)
    r = responsibilities(20, K)
    m_step = MStep(experts)
    m_step.step(x, y, r)
    experts.maximise(x, y, r, by_gradient=lambda part, *rows: m_step.improve(*rows, n_steps=3))
    m_step.epoch(x, y, r, batch_size=7)
    for name, value in experts.state_dict().items():
        assert torch.equal(value, before[name]) != ("weight" in name)
    assert experts.n_parameters == K * N_FEATURES
    assert not experts.log_scale.requires_grad
    assert not any(part.bias.requires_grad for part in parts)


def test_a_component_without_objects_stays_finite() -> None:
    experts = NeuralExperts(K, N_FEATURES, networks(), Gaussian())
    x, y, _ = lines(20, K, n_features=N_FEATURES)
    r = responsibilities(20, K)
    r[:, 0] = 0.0
    before = experts.scale[0].clone()
    experts.maximise(x, y, r, by_gradient=unchanged)
    assert torch.equal(experts.scale[0], before)
    experts.maximise(x, y, r, by_gradient=by_gradient)
    assert all(torch.isfinite(parameter).all() for parameter in experts.parameters())


def test_users_svi_trains_networks_and_noise_in_a_program() -> None:
    mixture = MixtureOfExperts(SoftmaxGate(K, 0), NeuralExperts(K, N_FEATURES, networks(), Gaussian()))
    x, y, _ = lines(40, K, n_features=N_FEATURES)
    nothing, before = x[:, :0], copy.deepcopy(mixture.state_dict())
    start = mixture.bound(x, y, gate_x=nothing)
    svi = SVI(
        mixture.model,
        lambda *_, **__: None,
        ClippedAdam({"lr": 0.02}),
        TraceEnum_ELBO(max_plate_nesting=1),
    )
    for _ in range(30):
        svi.step(x, y, gate_x=nothing)
    assert mixture.bound(x, y, gate_x=nothing) > start + 5.0
    changed = {name for name, value in mixture.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name, _ in mixture.named_parameters()}


def test_the_parameter_store_is_the_users() -> None:
    parts = [PyroModule[nn.Linear](N_FEATURES, 1).double() for _ in range(K)]  # type: ignore[call-arg,arg-type]
    experts = NeuralExperts(K, N_FEATURES, parts, Gaussian())
    x, y, _ = lines(20, K, n_features=N_FEATURES)
    r = responsibilities(20, K)
    MStep(experts).improve(x, y, r, n_steps=3)
    experts.predict(x)
    assert len(pyro.get_param_store()) == 0
    assert len({tuple(part.weight.flatten().tolist()) for part in parts}) == K


def test_a_collision_of_names_is_refused() -> None:
    first, second, x = linear_experts(Gaussian()), linear_experts(Gaussian()), inputs(4)
    first.model(x)
    with pytest.raises(RuntimeError, match="its own `name`"):
        second.model(x)
    with pytest.raises(RuntimeError, match="its own `name`"):
        Trace_ELBO().loss(second.objective, lambda *_: None, x, targets(Gaussian(), x), responsibilities(4, K))


def test_random_weights_are_sampled_in_a_model_and_refused_elsewhere() -> None:
    bayesian = PyroModule[nn.Linear](N_FEATURES, K).double()  # type: ignore[call-arg,arg-type]
    bayesian.weight = PyroSample(Normal(torch.zeros(K, N_FEATURES).double(), 1.0).to_event(2))
    experts, x = NeuralExperts(K, N_FEATURES, bayesian, Gaussian()), inputs(4)
    for refused in (experts.predict, experts.guide):
        with pytest.raises(RuntimeError, match="`network` must have no random weights"):
            refused(x)
    assert "experts.network.weight" in poutine.trace(experts.model).get_trace(x).nodes


def test_float32_networks_serve_float64_data() -> None:
    experts = NeuralExperts(K, N_FEATURES, networks().float(), Gaussian())
    x, y, _ = lines(20, K, n_features=N_FEATURES)
    experts.maximise(x, y, responsibilities(20, K), by_gradient=unchanged)
    assert experts.log_scale.dtype == torch.float32
    assert experts.expected_log_likelihood(x, y).dtype == torch.float64
    assert experts.model(x).scale.dtype == torch.float64


@pytest.mark.usefixtures("bad_arguments")
def test_bad_networks_are_refused() -> None:
    twin = nn.Linear(N_FEATURES, 1).double()
    for network, error, message in (
        (lambda x: x, TypeError, "`network` must be a torch.nn.Module or 3 of them; got function"),
        ([twin, twin, twin], ValueError, "3 different modules, one a component; got 3, 1 of them different"),
        (networks(2), ValueError, "3 different modules, one a component; got 2, 2 of them different"),
    ):
        with pytest.raises(error, match=message):
            NeuralExperts(K, N_FEATURES, network, Gaussian())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"predictors of shape \[4, 3, 1\] or \[4, 3\] for x \[4, 2\]; got \[4, 1\]"):
        NeuralExperts(K, N_FEATURES, twin, Gaussian()).predict(inputs(4))
    with pytest.raises(ValueError, match=r"predictors of shape \[4, 2\] for x \[4, 2\]; got \[4, 1\]"):
        NeuralExperts(K, N_FEATURES, networks(), Categorical(3)).predict(inputs(4))
    with pytest.raises(ValueError, match="`n_outputs` must be 1 for a Poisson; got 2"):
        NeuralExperts(K, N_FEATURES, networks(), Poisson(), n_outputs=2)
