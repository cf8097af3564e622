"""Generalised linear models whose components have some of the coefficients in common."""

import copy
from collections.abc import Sequence

import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from scipy.optimize import minimize
from torch import Tensor

from mixpyro import (
    MixtureOfExperts,
    SoftmaxGate,
)
from mixpyro.experts import (
    GLMExperts,
)
from mixpyro.experts.families import Binomial, Gaussian, Poisson
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
