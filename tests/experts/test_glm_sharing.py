"""Generalised linear models whose components have some of the coefficients in common."""

import copy
import csv
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from scipy.optimize import minimize
from torch import Tensor

from mixpyro import (
    DirichletGate,
    MixtureOfExperts,
    SoftmaxGate,
    coefficients,
    criteria,
    fit,
    linear_response,
    observed_information,
)
from mixpyro.experts import (
    GaussianExperts,
    GLMExperts,
    HeterogeneousExperts,
    LinearExperts,
    SharedLinearExperts,
)
from mixpyro.experts.families import Binomial, Family, Gaussian, Poisson
from mixpyro.intervals.names import parameter_names
from mixpyro.intervals.responses.parts import posterior_parts, quantity_names
from mixpyro.numerics.newton import MOST_DENSE
from tests.experts import test_glm as unshared
from tests.experts.contract import N_FEATURES, EstimatedExpertsContract, K
from tests.problems import inputs, responsibilities

NESTED = [[0, 2], [1]]
CASES = [
    unshared.TestGLMExperts(),
    unshared.TestPoisson(),
    unshared.TestBinomial(),
    unshared.TestCategorical(),
]


class TestSharedSlope(EstimatedExpertsContract):
    """The contract, with one slope and one noise for all components."""

    def make(self, n_components: int = K) -> GLMExperts:
        return GLMExperts(n_components, N_FEATURES, Gaussian(), shared=[1, "scale"])


class TestSharedWithinSets(unshared.TestBinomial):
    """The contract, with an intercept and a slope for each of two sets of components."""

    def make(self, n_components: int = K) -> GLMExperts:
        within = NESTED if n_components == K else None
        shared: Sequence[int | str] = [0, "intercept"]
        return GLMExperts(
            n_components, N_FEATURES, self.family, exposure=True, shared=shared, shared_within=within, prior_scale=5.0
        )


def expanded(x: Tensor, own: list[int], common: list[int], n_components: int) -> Tensor:
    """Columns of [1, x] for each component in turn and for all: rows of component 0, then of 1, …; no intercept."""
    u = torch.cat([torch.ones(len(x), 1).double(), x], 1)
    blocks = [torch.kron(torch.eye(n_components).double()[k : k + 1], u[:, own]) for k in range(n_components)]
    return torch.cat([torch.cat([block, u[:, common]], 1) for block in blocks])


@pytest.mark.parametrize(("shared", "own", "common"), [([1], [0, 1], [2]), (["intercept", 0], [2], [0, 1])])
@pytest.mark.parametrize(
    "case", [unshared.TestGLMExperts(), unshared.TestPoisson(), unshared.TestBinomial(), unshared.TestCategorical()]
)
def test_it_is_one_regression_on_columns_for_each_component(
    case: unshared.TestGLMExperts, shared: list[int | str], own: list[int], common: list[int]
) -> None:
    """The rows once for each component, the responsibilities as their weights, and scipy's optimiser."""
    x, y, r = case.data()
    exposure = case.make().exposure
    experts = GLMExperts(K, N_FEATURES, case.family, exposure=exposure, shared=[*shared], prior_scale=3.0)
    if case.family.has_scale:
        experts.log_scale.requires_grad_(False)
    experts.maximise(x, y, r)
    rows = expanded(x[:, :N_FEATURES], own, common, K)
    weights, outcomes = r.mT.reshape(-1, 1), y.repeat(K, 1)
    exposures = (x[:, -1:] if exposure else torch.ones(len(x), 1).double()).repeat(K, 1)
    shape = case.family.n_predictors, rows.shape[1]

    def loss(flat: Tensor) -> Tensor:
        b = torch.as_tensor(flat).reshape(shape)
        eta = (rows @ b.mT).unsqueeze(1)
        one = torch.ones(1, 1, 1).double()
        density = case.family.distribution(eta, exposures.unsqueeze(1), one).log_prob(outcomes.unsqueeze(1))
        return -(weights * density).sum() + 0.5 * b.square().sum() / 9.0

    def with_gradient(flat: object) -> tuple[float, object]:
        point = torch.as_tensor(flat).requires_grad_()
        value = loss(point)
        return float(value.detach()), torch.autograd.grad(value, point)[0].numpy()

    start = torch.zeros(shape[0] * shape[1]).double().numpy()
    found = torch.as_tensor(minimize(with_gradient, start, jac=True, method="BFGS", options={"gtol": 1e-8}).x)
    found = found.reshape(shape)
    split = len(own) * K
    torch.testing.assert_close(experts.coefficients[0][:, common], found[:, split:], rtol=1e-5, atol=1e-6)
    for k in range(K):
        expected = found[:, k * len(own) : (k + 1) * len(own)]
        torch.testing.assert_close(experts.coefficients[k][:, own], expected, rtol=1e-5, atol=1e-6)


def test_sets_share_within_and_differ_between() -> None:
    x, y, r = unshared.TestBinomial().data()
    experts = TestSharedWithinSets().make()
    experts.maximise(x, y, r)
    c = experts.coefficients[:, 0]
    assert torch.equal(c[0, :2], c[2, :2])
    assert not torch.allclose(c[0, :2], c[1, :2])
    assert not torch.allclose(c[0, 2], c[2, 2])
    pair = GLMExperts(2, N_FEATURES, Binomial(), exposure=True, shared=[0, "intercept"], prior_scale=5.0)
    pair.maximise(x, y, r[:, [0, 2]])
    torch.testing.assert_close(pair.coefficients, experts.coefficients[[0, 2]])


@pytest.mark.parametrize(("offset", "scale"), [(2000.0, 1.0), (0.0, 1e-6), (0.0, 1e6)])
@pytest.mark.parametrize("shared", [[0], ["intercept"]])
def test_the_scale_of_the_inputs_makes_no_difference(shared: list[int | str], offset: float, scale: float) -> None:
    """An intercept at x = 0 that is shared is another model where x is counted from elsewhere."""
    x, y = inputs(60), torch.poisson((0.5 * inputs(60)[:, :1]).exp())
    r = responsibilities(60, 2)
    near, far = (GLMExperts(2, N_FEATURES, Poisson(), shared=shared) for _ in range(2))
    near.maximise(x, y, r)
    moved = scale * x + (offset if shared == [0] else 0.0)
    far.maximise(moved, y, r)
    torch.testing.assert_close(far.predict(moved), near.predict(x), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("prior_scale", [None, 0.5])
def test_many_coefficients_reach_the_maximum(prior_scale: float | None) -> None:
    """Beyond a limit no matrix of second derivatives is formed."""
    n_features = MOST_DENSE // 2
    x, r = inputs(10 * n_features, n_features), responsibilities(10 * n_features, 3)
    y = (torch.arange(len(x)) % 6).double().unsqueeze(-1)
    experts = GLMExperts(3, n_features, Poisson(), prior_scale=prior_scale, shared=[*range(20)])
    assert experts.n_parameters > MOST_DENSE
    experts.maximise(x, y, r)
    parameters = [parameter for parameter in experts.parameters() if parameter.numel()]
    for gradient in torch.autograd.grad(experts.partial_bound(x, y, r), parameters):
        assert gradient.abs().max() < 1e-3


@pytest.mark.parametrize("frozen", ["coefficients_estimate", "shared_coefficients_estimate"])
def test_frozen_parameters_stay(frozen: str) -> None:
    x, y, r = unshared.TestPoisson().data()
    experts = GLMExperts(K, N_FEATURES, Poisson(), exposure=True, shared=[0])
    experts.maximise(x, y, r)
    best = experts.partial_bound(x, y, r)
    held = getattr(experts, frozen)
    with torch.no_grad():
        held.add_(0.1)
    held.requires_grad_(False)
    before, lower = held.clone(), experts.partial_bound(x, y, r)
    experts.maximise(x, y, r)
    assert torch.equal(held, before)
    assert lower < experts.partial_bound(x, y, r) < best
    free = [parameter for parameter in experts.parameters() if parameter.requires_grad and parameter.numel()]
    assert torch.autograd.grad(experts.partial_bound(x, y, r), free)[0].abs().max() < 1e-8


def mixture(family: Family, **options: object) -> MixtureOfExperts:
    """Two components with one slope, whose weights do not depend on x."""
    return MixtureOfExperts(SoftmaxGate(2, 0), GLMExperts(2, 1, family, shared=[0], **options))  # type: ignore[arg-type]


def counts() -> tuple[Tensor, Tensor]:
    """Counts with one slope and two intercepts."""
    x = torch.linspace(-1.0, 1.0, 80).double().unsqueeze(-1)
    intercept = torch.where(torch.arange(80) % 2 == 0, 0.0, 2.0).double().unsqueeze(-1)
    return x, torch.poisson((intercept + 0.5 * x).exp(), generator=torch.Generator().manual_seed(1))


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("prior_scale", [None, 3.0])
def test_a_fit_is_the_maximum_that_scipy_finds_and_its_errors_those_of_its_hessian(prior_scale: float | None) -> None:
    x, y = counts()
    result = fit(mixture(Poisson(), prior_scale=prior_scale), x, y, gate_x=x[:, :0], n_restarts=2, tolerance=1e-12)

    def log_likelihood(theta: Tensor) -> Tensor:
        weight, first, second, slope = theta
        log_weights = torch.stack([torch.zeros_like(weight), weight]).log_softmax(0)
        log_rates = torch.cat([first + slope * x, second + slope * x], 1)
        log_density = y * log_rates - log_rates.exp() - torch.lgamma(y + 1.0)
        found = (log_weights + log_density).logsumexp(-1).sum()
        if prior_scale is not None:
            found = found + torch.distributions.Normal(0.0, prior_scale).log_prob(theta[1:]).sum()
        return found

    start = torch.tensor([0.0, 0.0, 2.0, 0.5]).double()
    best = minimize(lambda t: -float(log_likelihood(torch.as_tensor(t))), start, options={"gtol": 1e-7}, tol=1e-13)
    assert result.bound == pytest.approx(-best.fun, abs=1e-7)
    table = coefficients(result, x, y, gate_x=x[:, :0], feature_names=["dose"])
    estimates = result.mixture.experts.coefficients[:, 0]
    assert float(estimates[0, 1]) == table["experts: all components, dose"].estimate == float(estimates[1, 1])
    gate = result.mixture.gate.coefficients.flatten()
    point = torch.cat([gate, estimates[:, 0], estimates[:1, 1]])
    hessian = -torch.autograd.functional.hessian(log_likelihood, point)
    expected = hessian.inverse().diagonal().sqrt()
    found = torch.tensor([row.standard_error for row in table.values()]).double()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    assert list(table)[1:] == [
        "experts: component 0, intercept",
        "experts: component 1, intercept",
        "experts: all components, dose",
    ]
    information = observed_information(result.mixture, x, y, gate_x=x[:, :0])
    torch.testing.assert_close(information, hessian, rtol=1e-6, atol=1e-6)
    assert criteria(result, x, y, gate_x=x[:, :0]).n_parameters == 4
    response = linear_response(result, x, y, gate_x=x[:, :0])
    torch.testing.assert_close(response.standard_deviations, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("prior_scale", [None, 1.5])
@pytest.mark.parametrize("case", [TestSharedSlope(), TestSharedWithinSets()])
def test_the_elbo_of_the_joint_model_is_the_bound(case: EstimatedExpertsContract, prior_scale: float | None) -> None:
    experts, x, y, _ = case.updated()
    experts.prior_scale = prior_scale
    whole, nothing = MixtureOfExperts(SoftmaxGate(K, 0), experts), x[:, :0]
    loss = TraceEnum_ELBO(max_plate_nesting=1).loss(whole.model, whole.guide, x, y, gate_x=nothing)
    assert -loss == pytest.approx(whole.bound(x, y, gate_x=nothing).item(), abs=1e-8)


def test_some_components_keep_what_their_sets_share() -> None:
    experts, x, y, _ = TestSharedWithinSets().updated()
    for kept in ([2, 1], [0, 2], [1], [2, 0, 1]):
        fewer = experts.with_components(kept)
        torch.testing.assert_close(fewer.coefficients, experts.coefficients[kept])
        torch.testing.assert_close(fewer.expected_log_likelihood(x, y), experts.expected_log_likelihood(x, y)[:, kept])
    assert experts.with_components([2, 0]).shared_within is None
    assert experts.with_components([2, 1]).shared_within == ((0,), (1,))
    slope, x, y, r = TestSharedSlope().updated()
    fewer = slope.with_components([2, 1])
    torch.testing.assert_close(fewer.scale, slope.scale[[2, 1]])
    before = copy.deepcopy(slope.state_dict())
    fewer.maximise(x, y, r[:, :2])
    assert all(torch.equal(value, before[name]) for name, value in slope.state_dict().items())


def test_a_direction_without_a_maximum_is_of_all_components_at_once() -> None:
    """A slope that one component alone would send to infinity is held by the other one."""
    x = torch.linspace(-1.0, 1.0, 40).double().unsqueeze(-1)
    separated, mixed = (x > 0).double(), (torch.arange(40) % 3 == 0).double().unsqueeze(-1)
    x, y = x.repeat(2, 1), torch.cat([separated, mixed])
    r = torch.eye(2).double().repeat_interleave(40, dim=0)
    own, common = GLMExperts(2, 1, Binomial()), GLMExperts(2, 1, Binomial(), shared=[0])
    for experts in (own, common):
        experts.maximise(x, y, r)
    assert len(own.separations(x, y, r)) == 1
    assert common.separations(x, y, r) == []
    y = torch.cat([separated, separated])
    common.maximise(x, y, r)
    assert "of which components share some, have their maximum at infinity" in common.separations(x, y, r)[0]


def test_a_strong_prior_is_reported() -> None:
    x, y, r = unshared.TestPoisson().data()
    for prior_scale, n_messages in ((1e-3, 1), (10.0, 0)):
        experts = GLMExperts(K, N_FEATURES, Poisson(), exposure=True, prior_scale=prior_scale, shared=[0])
        y_high = y + 20.0
        experts.maximise(x, y_high, 100.0 * r)
        messages = experts.prior_warnings(x, y_high, 100.0 * r)
        assert len(messages) == n_messages
        assert all("the prior says more of the coefficients than the data do" in message for message in messages)


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"shared": "intercept"}, TypeError, "`shared` must be a list of columns of x"),
        ({"shared": [2]}, ValueError, "`shared` must have as each entry a number below 2, .* got 2"),
        ({"shared": ["scale"]}, ValueError, "`shared` must have as each entry .* got 'scale'"),
        ({"shared": ["slope"]}, ValueError, "`shared` must have as each entry .* got 'slope'"),
        ({"shared": [0, 1, "intercept"]}, ValueError, "`shared` must leave each component a coefficient of its own"),
        ({"shared": [0], "shared_within": [[0, 1]]}, ValueError, "`shared_within` must have each of the components"),
        ({"shared": [0], "shared_within": [0, 1, 2]}, TypeError, "`shared_within` must be lists of components"),
        ({"shared_within": [[0, 1], [2]]}, ValueError, "`shared` must name what the sets"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        GLMExperts(3, 2, Poisson(), **options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(("n_components", "expected"), [(2, -181.33082), (3, -159.36052), (4, -155.75390)])
def test_centres_with_one_effect_of_treatment_are_those_of_flexmix(n_components: int, expected: float) -> None:
    """flexmix with nrep = 20: cbind(Deaths, Total - Deaths) ~ 1 | Center, a Treatment effect in common."""
    path = Path(__file__).parents[1] / "data" / "betablocker.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    treated = [float(row["Treatment"] == "Treated") for row in rows]
    x = torch.tensor([treated, [float(row["Total"]) for row in rows]]).double().mT
    y, centres = torch.tensor([float(row["Deaths"]) for row in rows]).double(), [row["Center"] for row in rows]
    experts = GLMExperts(n_components, 1, Binomial(), exposure=True, shared=[0])
    result = fit(
        MixtureOfExperts(SoftmaxGate(n_components, 0), experts),
        x,
        y,
        gate_x=x[:, :0],
        groups=centres,
        n_restarts={2: 1, 3: 3, 4: 4}[n_components],
        progress=False,
    )
    assert result.bound == pytest.approx(expected, abs=2e-4)
    assert experts.n_parameters == n_components + 1
    if n_components == 3:
        assert experts.coefficients[:, 0, 1].tolist() == pytest.approx([-0.2582] * 3, abs=1e-3)


@pytest.mark.usefixtures("without_type_checks")
def test_what_members_of_a_larger_bank_share_has_names_of_its_own() -> None:
    """A name that stood for two numbers would hide one of them."""
    banks = [GLMExperts(2, 1, Gaussian(), shared=[0, "scale"], prior_scale=5.0) for _ in range(2)]
    mixture = MixtureOfExperts(SoftmaxGate(4, 0, prior_scale=2.0), HeterogeneousExperts(banks))
    names = parameter_names(mixture, ["dose"], [])
    assert "experts: components 0 and 1, dose" in names
    assert "experts: components 2 and 3, log scale" in names
    assert len(set(names)) == len(names)
    lines_of_one_noise = [LinearExperts(2, 1, noise_per_component=False) for _ in range(2)]
    tied = [GaussianExperts(2, 1, covariance="tied"), SharedLinearExperts(2, 1, shared=[0])]
    for members in (lines_of_one_noise, tied):
        bank = MixtureOfExperts(DirichletGate(4), HeterogeneousExperts(members))
        found = [name for part in posterior_parts(bank) for name in quantity_names(part.part, ["dose"])]
        assert len(set(found)) == len(found)
