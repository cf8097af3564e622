"""Bayesian linear regressions."""

import pytest
import torch
from pyro.distributions import MultivariateStudentT

from mixpyro.experts import LinearExperts
from tests.experts.contract import N_FEATURES, ConjugateExpertsContract, K
from tests.problems import inputs, lines


class TestLinearExperts(ConjugateExpertsContract):
    """The contract, with two outputs."""

    n_outputs = 2

    def make(self, n_components: int = K) -> LinearExperts:
        return LinearExperts(n_components, N_FEATURES, 2, coefficient_precision=[0.5, 0.1, 2.0])


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


def test_standard_deviations_are_infinite_before_there_is_data_to_tell() -> None:
    assert LinearExperts(2, 1).coefficient_standard_deviations.isinf().all()


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


def test_an_exact_fit_keeps_a_positive_noise() -> None:
    x = torch.linspace(0, 1e4, 50, dtype=torch.float64).unsqueeze(-1)
    experts = one_expert(x, 3e3 + 7e2 * x, noise_rate=1e-6)
    assert (experts.posterior_rate >= 1e-6).all()
    assert torch.isfinite(experts.kl_divergence())


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_features": -1}, "`n_features` must be at least 0; got -1"),
        ({"n_features": 0, "intercept": False}, "`n_features` must be at least 1 without an intercept; got 0"),
        ({"n_outputs": 0}, "`n_outputs` must be at least 1; got 0"),
        ({"coefficient_precision": 0.0}, "`coefficient_precision` must be finite and above 0"),
        ({"coefficient_precision": [1.0, 1.0]}, r"length 3; got shape \[2\]"),
        ({"coefficient_precision": torch.ones(2, 2)}, r"matrix \[3, 3\]; got shape \[2, 2\]"),
        ({"coefficient_precision": -torch.eye(3)}, "symmetric positive definite"),
        ({"noise_shape": 0.0}, "`noise_shape` must be finite and above 0; got 0.0"),
        ({"noise_rate": float("inf")}, "`noise_rate` must be finite and above 0; got inf"),
    ],
)
def test_bad_priors_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearExperts(2, **{"n_features": 2, **arguments})  # type: ignore[arg-type]
