"""Bayesian linear regressions."""

import math
from typing import Any

import pytest
import torch
from pyro import poutine
from pyro.distributions import MultivariateStudentT

from mixpyro import DirichletGate, MixtureOfExperts
from mixpyro.experts import LinearExperts
from tests.experts.contract import N_FEATURES, ConjugateExpertsContract, K
from tests.experts.joint_bounds import assert_joint_elbo_equals_the_closed_form
from tests.problems import inputs, lines, responsibilities

# Every way to share a noise, with the shape that its site has for K components and two outputs.
SHARED: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "own": ({}, (K, 2)),
    "outputs": ({"noise_per_output": False}, (K, 1)),
    "components": ({"noise_per_component": False}, (1, 2)),
    "all": ({"noise_per_output": False, "noise_per_component": False}, (1, 1)),
}


class TestLinearExperts(ConjugateExpertsContract):
    """The contract, with two outputs."""

    n_outputs = 2

    def make(self, n_components: int = K) -> LinearExperts:
        return LinearExperts(n_components, N_FEATURES, 2, coefficient_precision=[0.5, 0.1, 2.0])


class TestLinearExpertsWithOneNoiseForAllOutputs(TestLinearExperts):
    """The contract again; a prior mean comes with it."""

    def make(self, n_components: int = K) -> LinearExperts:
        mean = torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, 0.5]])
        return LinearExperts(n_components, N_FEATURES, 2, coefficient_mean=mean, noise_per_output=False)


class TestLinearExpertsWithOneNoiseForAllComponents(TestLinearExperts):
    """The contract again."""

    def make(self, n_components: int = K) -> LinearExperts:
        return LinearExperts(n_components, N_FEATURES, 2, coefficient_mean=0.5, noise_per_component=False)


def one_expert(x: torch.Tensor, y: torch.Tensor, **prior: float) -> LinearExperts:
    """One expert that has seen all rows."""
    experts = LinearExperts(1, x.shape[1], y.shape[1], **prior)  # type: ignore[arg-type]
    experts.update(experts.statistics(x, y, torch.ones(len(x), 1, dtype=x.dtype)))
    return experts


def test_with_a_weak_prior_it_is_least_squares() -> None:
    x, y, _ = lines(50, 1, n_features=3, noise=0.5)
    experts = one_expert(x, y, coefficient_precision=1e-10, noise_shape=1e-10, noise_rate=1e-10)
    design = experts.design(x)
    solution = torch.linalg.lstsq(design, y)
    torch.testing.assert_close(experts.coefficients[0].T, solution.solution, rtol=1e-6, atol=1e-8)
    residual = (y - design @ solution.solution).square().sum()
    torch.testing.assert_close(experts.noise_standard_deviations[0, 0] ** 2, residual / (len(x) - 2), rtol=1e-6, atol=0)


def test_the_bound_of_one_expert_is_the_exact_log_evidence() -> None:
    """y is multivariate Student-t once w and τ are integrated out: 2a₀ degrees of freedom, (b₀/a₀)(I + U Λ₀⁻¹ U')."""
    x, y, _ = lines(20, 1, n_features=2)
    experts = one_expert(x, y, coefficient_precision=0.5, noise_shape=2.0, noise_rate=0.7)
    bound = experts.expected_log_likelihood(x, y).sum() - experts.kl_divergence()
    design = experts.design(x)
    scale = 0.7 / 2.0 * (torch.eye(20).double() + design @ design.T / 0.5)
    evidence = MultivariateStudentT(
        torch.tensor(4.0).double(), torch.zeros(20).double(), torch.linalg.cholesky(scale)
    ).log_prob(y[:, 0])
    torch.testing.assert_close(bound, evidence, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shared", SHARED)
def test_the_bound_given_the_components_is_the_exact_log_evidence(shared: str) -> None:
    """All y that share a τ are together multivariate Student-t, in a design of blocks, about the prior means."""
    options, (n_rates, n_columns) = SHARED[shared]
    x, y, z = lines(24, K, n_features=2, n_outputs=2)
    means, precision = inputs(K * 2, 3, seed=3).reshape(K, 2, 3), torch.tensor([0.5, 0.1, 2.0]).double()
    experts = LinearExperts(
        K, 2, 2, coefficient_mean=means, coefficient_precision=precision, noise_shape=2.0, noise_rate=0.7, **options
    )
    experts.centre(x, y)
    r = torch.nn.functional.one_hot(z, K).double()
    experts.update(experts.statistics(x, y, r))
    u = torch.cat([torch.ones(24, 1).double(), x], 1)
    covariance = u @ torch.diag(1.0 / precision) @ u.T * (z[:, None] == z)
    groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for i in range(24):
        for p in range(2):
            groups.setdefault((int(z[i]) % n_rates, p % n_columns), []).append((i, p))
    evidence = torch.zeros(()).double()
    for members in groups.values():
        i, p = torch.tensor(members).T
        scale = 0.7 / 2.0 * (torch.eye(len(i)).double() + covariance[i][:, i] * (p[:, None] == p))
        location = (u[i] * means[z[i], p]).sum(-1)
        student = MultivariateStudentT(torch.tensor(4.0).double(), location, torch.linalg.cholesky(scale))
        evidence += student.log_prob(y[i, p])
    torch.testing.assert_close(experts.partial_bound(x, y, r), evidence, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shared", SHARED)
def test_one_evaluation_of_the_elbo_equals_the_closed_form(shared: str) -> None:
    options, shape = SHARED[shared]
    x, y, _ = lines(25, K, n_features=2, n_outputs=2)
    r = responsibilities(25, K)
    mixture = MixtureOfExperts(DirichletGate(K), LinearExperts(K, 2, 2, coefficient_mean=[1.0, 0.5, 2.0], **options))
    mixture.experts.centre(x, y)
    mixture.experts.update(mixture.experts.statistics(x, y, r))
    assert_joint_elbo_equals_the_closed_form(mixture.experts, x, y, r)
    site = poutine.trace(mixture.model).get_trace(x, y).nodes["experts.precision"]
    assert torch.as_tensor(site["value"]).shape == shape
    assert mixture.experts.n_parameters == K * 2 * 3 + shape[0] * shape[1]
    assert mixture.experts.noise_standard_deviations.shape == (K, 2)


@pytest.mark.parametrize("shared", SHARED)
def test_the_origin_makes_no_difference(shared: str) -> None:
    x, y, _ = lines(40, K, n_features=2, n_outputs=2)
    x, y, r = x + 3.0, y - 2.0, responsibilities(40, K)
    near, far = (
        LinearExperts(K, 2, 2, coefficient_mean=[1.0, 0.5, 2.0], noise_rate=0.01, **SHARED[shared][0]) for _ in range(2)
    )
    far.centre(x, y)
    for experts in (near, far):
        experts.update(experts.statistics(x, y, r))
    assert not torch.equal(near.x_origin, far.x_origin)
    torch.testing.assert_close(near.partial_bound(x, y, r), far.partial_bound(x, y, r), rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(near.coefficients, far.coefficients)
    torch.testing.assert_close(near.predictive(x).variance, far.predictive(x).variance)


def test_without_data_predictions_are_those_of_the_prior_mean() -> None:
    experts = LinearExperts(2, 1, coefficient_mean=[3.0, -2.0])
    experts.centre(torch.ones(1, 1).double(), torch.full((1, 1), 10.0).double())
    x = torch.tensor([[0.0], [5.0]]).double()
    torch.testing.assert_close(experts.predict(x)[:, 0, 0], torch.tensor([3.0, -7.0]).double())
    torch.testing.assert_close(experts.coefficients[1, 0], torch.tensor([3.0, -2.0]).double())


def test_the_predictive_of_outputs_that_share_a_noise_is_that_of_the_guide() -> None:
    """The outputs are uncorrelated, but an outlier in one makes an outlier in the other more likely."""
    x, y, _ = lines(12, 1, n_outputs=2)
    experts = LinearExperts(1, 1, 2, noise_per_output=False)
    experts.update(experts.statistics(x, y, torch.ones(12, 1).double()))
    z = torch.zeros(1, dtype=torch.int64)
    draws = torch.stack([experts.likelihood(x[:1], experts.guide(x), z).log_prob(y[:1]).exp() for _ in range(1000)])
    exact = experts.predictive(x[:1]).log_prob(y[:1].unsqueeze(1)).exp()[:, 0]
    assert abs(draws.mean(0) - exact) < 4.5 * draws.std(0) / 1000**0.5


@pytest.mark.parametrize("shared", SHARED)
@pytest.mark.parametrize("intercept", [True, False])
def test_one_matrix_product_gives_the_plain_formula(shared: str, intercept: bool) -> None:
    """Residuals and leverages by themselves, and sums by einsum."""
    x, y, _ = lines(40, K, n_features=2, n_outputs=2)
    x, r = x + 2.0, responsibilities(40, K)
    experts = LinearExperts(K, 2, 2, intercept=intercept, coefficient_mean=0.5, **SHARED[shared][0])
    experts.centre(x, y)
    statistics = experts.statistics(x, y, r)
    u, centred_y = experts.design(x), y - experts.y_origin
    plain = (r.sum(0), *(torch.einsum(s, r, u, v) for s, v in (("nk,ne,nf->kef", u), ("nk,ne,np->kep", centred_y))))
    for ours, theirs in zip(statistics, (*plain, r.mT @ centred_y.square()), strict=True):
        torch.testing.assert_close(ours, theirs)
    experts.update(statistics)
    q = experts.posterior
    residuals = centred_y.unsqueeze(1) - torch.einsum("ne,kpe->nkp", u, q.mean)
    leverage = torch.einsum("ne,kef,nf->nk", u, torch.linalg.inv(q.precision), u)
    squares = torch.einsum("nkp,kp->nk", residuals.square(), q.noise.mean.expand(K, 2)) + 2 * leverage
    log_precision = (torch.digamma(q.shape).unsqueeze(-1) - q.rate.log()).expand(K, 2).sum(-1)
    expected = 0.5 * (log_precision - 2 * math.log(2 * math.pi) - squares)
    torch.testing.assert_close(experts.expected_log_likelihood(x, y), expected)


def test_prediction_is_the_mean_of_the_predictive_samples() -> None:
    x, y, _ = lines(30, 1)
    experts = one_expert(x, y)
    grid = inputs(3, 1, seed=5)
    samples = torch.stack(
        [experts.likelihood(grid, experts.guide(grid), torch.zeros(3, dtype=torch.int64)).sample() for _ in range(1500)]
    )
    predictive = experts.predictive(grid)
    assert ((samples.mean(0) - predictive.mean[:, 0]).abs() < 4.5 * samples.std(0) / 1500**0.5).all()
    torch.testing.assert_close(samples.std(0), predictive.stddev[:, 0], rtol=0.12, atol=0)


def test_coefficient_standard_deviations_are_those_of_the_guide() -> None:
    x, y, _ = lines(30, 1)
    experts = one_expert(x, y)
    draws = torch.stack([experts.guide(x).coefficients for _ in range(1500)])
    torch.testing.assert_close(draws.std(0), experts.coefficient_standard_deviations, rtol=0.12, atol=0)


def test_a_matrix_prior_and_no_intercept() -> None:
    x, y, _ = lines(40, 2, n_features=2)
    matrix = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    experts = LinearExperts(2, 2, intercept=False, coefficient_precision=matrix)
    experts.update(experts.statistics(x, y, torch.full((40, 2), 0.5).double()))
    expected = torch.linalg.solve(matrix + 0.5 * x.T @ x, 0.5 * x.T @ y)
    torch.testing.assert_close(experts.coefficients[0].T, expected)


def test_a_constant_expert_has_no_inputs() -> None:
    y = inputs(30, 1)
    experts = one_expert(torch.zeros(30, 0).double(), y, coefficient_precision=1e-8)
    torch.testing.assert_close(experts.coefficients.squeeze(), y.mean(), rtol=1e-6, atol=1e-8)


def test_a_state_dict_keeps_its_layout() -> None:
    """Files of earlier versions have these names and shapes, but for the origin of the prior."""
    shapes = {name: list(value.shape) for name, value in LinearExperts(3, 2, 2).state_dict().items()}
    assert shapes == {
        "prior_mean": [3, 2, 3],
        "prior_precision": [3, 3],
        "prior_shape": [],
        "prior_rate": [],
        "prior_x_origin": [2],
        "prior_y_origin": [2],
        "x_origin": [2],
        "y_origin": [2],
        "centred_coefficients": [3, 2, 3],
        "centred_precision": [3, 3, 3],
        "posterior_shape": [3],
        "posterior_rate": [3, 2],
    }
