"""Gaussian densities of every covariance structure."""

import math
from typing import Any, ClassVar

import pytest
import torch
from pyro.distributions import MultivariateStudentT
from torch import Generator, Tensor

from mixpyro import DirichletGate, GaussianExperts, LinearExperts, MixtureOfExperts, fit
from tests.experts.contract import ConjugateExpertsContract, K
from tests.experts.joint_bounds import assert_joint_elbo_equals_the_closed_form
from tests.problems import inputs, responsibilities

STRUCTURES = ("full", "diagonal", "spherical", "tied")
MATRIX = torch.tensor([[0.5, 0.2, 0.0], [0.2, 0.8, -0.1], [0.0, -0.1, 0.4]], dtype=torch.float64)
SCALES: dict[str, Any] = {"full": MATRIX, "diagonal": [0.5, 0.8, 0.4], "spherical": 0.6, "tied": MATRIX}


def make(covariance: str, n_components: int = K, **changes: Any) -> GaussianExperts:
    """Experts for three columns with a prior that differs from the defaults."""
    prior = {"mean": [0.5, -0.2, 0.1], "mean_precision": 0.3, "degrees_of_freedom": 3.5, "scale": SCALES[covariance]}
    return GaussianExperts(n_components, 3, covariance=covariance, **{**prior, **changes})


def clusters(n_objects: int, n_outputs: int = 3, *, apart: float = 4.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Three Gaussian clusters of different shapes: an x without columns and y [N, P], float64."""
    generator = Generator().manual_seed(seed)
    roots = torch.randn(3, n_outputs, n_outputs, generator=generator, dtype=torch.float64)
    centres = apart * torch.randn(3, n_outputs, generator=generator, dtype=torch.float64)
    z = torch.arange(n_objects) % 3
    y = centres[z] + torch.einsum("npq,nq->np", roots[z], inputs(n_objects, n_outputs, seed=seed + 1))
    return y[:, :0], y


def learn(experts: GaussianExperts, x: Tensor, y: Tensor, r: Tensor | None = None) -> GaussianExperts:
    """The experts after an update; of one component, all objects are its own."""
    experts.update(experts.statistics(x, y, x.new_ones(len(x), 1) if r is None else r))
    return experts


class TestGaussianExperts(ConjugateExpertsContract):
    """The contract, for a full covariance of three columns."""

    n_outputs = 3
    covariance: ClassVar[str] = "full"

    def make(self, n_components: int = K) -> GaussianExperts:
        return make(self.covariance, n_components)

    def test_one_evaluation_of_the_joint_elbo_equals_the_closed_form(self) -> None:
        assert_joint_elbo_equals_the_closed_form(*self.updated())

    def test_the_predictive_distribution_is_that_of_draws_from_the_guide(self) -> None:
        """Averages of densities and of squares over draws of the parameters, against the Student-t."""
        experts, x, y, _ = self.updated()
        x, y, z = x[:4], y[:4], torch.arange(4) % K
        densities, samples = [], []
        for _ in range(400):
            likelihood = experts.likelihood(x, experts.guide(x), z)
            densities.append(likelihood.log_prob(y).exp())
            samples.append(likelihood.sample())
        drawn, exact = torch.stack(densities), experts.predictive(x).log_prob(y.unsqueeze(1)).exp()[torch.arange(4), z]
        assert ((drawn.mean(0) - exact).abs() < 4.5 * drawn.std(0) / 400**0.5).all()
        variance = experts.predictive(x).variance[torch.arange(4), z]
        torch.testing.assert_close(torch.stack(samples).var(0), variance, rtol=0.4, atol=0)

    def test_means_and_covariances_are_those_of_the_guide(self) -> None:
        experts, x, _, _ = self.updated()
        means, covariances = [], []
        for _ in range(400):
            parameters = experts.guide(x)
            means.append(parameters.mean)
            covariances.append(experts.covariances_of(parameters))
        drawn, expected = torch.stack(covariances), experts.covariances
        assert ((drawn.mean(0) - expected).abs() <= 4.5 * drawn.std(0) / 400**0.5).all()
        torch.testing.assert_close(torch.stack(means).std(0), experts.mean_standard_deviations, rtol=0.2, atol=0)

    def test_the_bound_of_one_component_is_the_exact_log_evidence(self) -> None:
        """It is the product of the predictive densities of each object given those before it."""
        x, y = clusters(25)
        experts, evidence = self.make(1), torch.zeros((), dtype=torch.float64)
        for n in range(25):
            evidence += experts.predictive(x[:1]).log_prob(y[n]).squeeze()
            experts = learn(self.make(1), x[: n + 1], y[: n + 1])
        bound = MixtureOfExperts(DirichletGate(1), experts).bound(x, y)
        torch.testing.assert_close(bound, evidence, rtol=0, atol=1e-9)

    def test_the_order_of_rows_and_an_origin_make_no_difference(self) -> None:
        experts, x, y, r = self.updated()
        centred = self.make()
        centred.centre(x, y + 5.0)
        learn(centred, x.flip(0), y.flip(0), r.flip(0))
        for name in ("means", "covariances", "mean_standard_deviations"):
            torch.testing.assert_close(getattr(centred, name), getattr(experts, name), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(centred.kl_divergence(), experts.kl_divergence())

    def test_scaled_data_under_a_scaled_prior_give_scaled_posteriors(self) -> None:
        experts, x, y, r = self.updated()
        scale = 9.0 * torch.as_tensor(SCALES[self.covariance], dtype=torch.float64)
        scaled = learn(make(self.covariance, mean=[1.5, -0.6, 0.3], scale=scale), x, 3.0 * y, r)
        torch.testing.assert_close(scaled.means, 3.0 * experts.means)
        torch.testing.assert_close(scaled.covariances, 9.0 * experts.covariances)
        likelihood = scaled.expected_log_likelihood(x, 3.0 * y) + 3 * math.log(3.0)
        torch.testing.assert_close(likelihood, experts.expected_log_likelihood(x, y))
        torch.testing.assert_close(scaled.kl_divergence(), experts.kl_divergence())

    @pytest.mark.filterwarnings("ignore:the prior of the means is far")
    def test_a_large_offset_costs_float32_nothing(self) -> None:
        """Clusters as wide as one, at a thousand: float32 must find the mixture of float64."""
        x, y = clusters(60)
        y = (y + 1000.0).float()
        mixtures = []
        for dtype in (torch.float32, torch.float64):
            experts = make(self.covariance, mean=1000.0, dtype=dtype)
            mixture = MixtureOfExperts(DirichletGate(K, dtype=dtype), experts)
            start = 0.5 * torch.eye(K, dtype=dtype).repeat(20, 1) + 0.5 * responsibilities(60, K, dtype=dtype)
            fit(mixture, x.to(dtype), y.to(dtype), initial_responsibilities=start, progress=False)
            mixtures.append(mixture)
        narrow, wide = mixtures
        torch.testing.assert_close(narrow.experts.covariances, wide.experts.covariances, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(narrow.experts.means, wide.experts.means, rtol=1e-6, atol=0)
        bound = narrow.bound(x.float(), y), wide.bound(x, y.double())
        torch.testing.assert_close(*bound, rtol=1e-4, atol=0)


class TestDiagonal(TestGaussianExperts):
    """The contract, for a diagonal covariance."""

    covariance = "diagonal"


class TestSpherical(TestGaussianExperts):
    """The contract, for a spherical covariance."""

    covariance = "spherical"


class TestTied(TestGaussianExperts):
    """The contract, for a full covariance that all components share."""

    covariance = "tied"


def test_one_full_component_has_the_evidence_of_the_textbook() -> None:
    """Murphy (2007), Conjugate Bayesian analysis of the Gaussian distribution, eq. 266."""
    x, y = clusters(25)
    experts = learn(make("full", 1), x, y)

    def log_multigamma(a: float) -> float:
        return 1.5 * math.log(math.pi) + sum(math.lgamma(a - 0.5 * j) for j in range(3))

    mean = torch.tensor([0.5, -0.2, 0.1], dtype=torch.float64)
    scatter = (y - y.mean(0)).T @ (y - y.mean(0))
    shift = (y.mean(0) - mean).outer(y.mean(0) - mean)
    scale = MATRIX + scatter + 0.3 * 25 / 25.3 * shift
    evidence = (
        -0.5 * 75 * math.log(math.pi)
        + log_multigamma(0.5 * 28.5)
        - log_multigamma(0.5 * 3.5)
        + 0.5 * 3.5 * torch.logdet(MATRIX)
        - 0.5 * 28.5 * torch.logdet(scale)
        + 1.5 * math.log(0.3 / 25.3)
    )
    bound = MixtureOfExperts(DirichletGate(1), experts).bound(x, y)
    torch.testing.assert_close(bound, evidence, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("covariance", "n_outputs"), [("diagonal", 3), ("full", 1), ("spherical", 1)])
def test_of_independent_columns_they_are_constant_linear_experts(covariance: str, n_outputs: int) -> None:
    x, y = clusters(40, n_outputs)
    r = responsibilities(40, 2)
    for prior, same in (
        ({}, {}),
        (
            {"mean_precision": 0.4, "degrees_of_freedom": 3.0, "scale": 0.5},
            {"coefficient_precision": 0.4, "noise_shape": 1.5, "noise_rate": 0.25},
        ),
    ):
        gaussian = learn(GaussianExperts(2, n_outputs, covariance=covariance, **prior), x, y, r)  # type: ignore[arg-type]
        linear = LinearExperts(2, 0, n_outputs, **same)  # type: ignore[arg-type]
        linear.update(linear.statistics(x, y, r))
        torch.testing.assert_close(gaussian.means, linear.coefficients.squeeze(-1))
        torch.testing.assert_close(gaussian.kl_divergence(), linear.kl_divergence())
        torch.testing.assert_close(gaussian.expected_log_likelihood(x, y), linear.expected_log_likelihood(x, y))
        torch.testing.assert_close(
            gaussian.mean_standard_deviations, linear.coefficient_standard_deviations.squeeze(-1)
        )
        theirs = linear.predictive(x).log_prob(y.unsqueeze(1))
        torch.testing.assert_close(gaussian.predictive(x).log_prob(y.unsqueeze(1)), theirs)


def test_the_predictive_density_is_that_of_pyros_student() -> None:
    x, y = clusters(20)
    experts = learn(make("full"), x, y, responsibilities(20, K))
    ours = experts.predictive(x)
    theirs = MultivariateStudentT(ours.df, ours.loc, ours.scale_tril)
    torch.testing.assert_close(ours.log_prob(y.unsqueeze(1)), theirs.log_prob(y.unsqueeze(1)))
    assert experts.predictive(y.float()).log_prob(y.float().unsqueeze(1)).dtype == torch.float32


@pytest.mark.parametrize("covariance", STRUCTURES)
def test_columns_may_be_permuted(covariance: str) -> None:
    """The sites of a full covariance depend on the order of the columns; results must not."""
    x, y = clusters(30)
    r, order = responsibilities(30, K), torch.tensor([2, 0, 1])
    first = learn(GaussianExperts(K, 3, covariance=covariance), x, y, r)
    second = learn(GaussianExperts(K, 3, covariance=covariance), x, y[:, order], r)
    torch.testing.assert_close(second.means, first.means[:, order])
    torch.testing.assert_close(second.covariances, first.covariances[:, order][:, :, order])
    torch.testing.assert_close(second.expected_log_likelihood(x, y[:, order]), first.expected_log_likelihood(x, y))
    torch.testing.assert_close(second.kl_divergence(), first.kl_divergence())


@pytest.mark.parametrize("covariance", STRUCTURES)
def test_a_fit_finds_clusters_from_random_starts(covariance: str) -> None:
    centres = torch.tensor([[0.0, 0.0], [6.0, 1.0], [2.0, 7.0]]).double()
    y = centres.repeat(25, 1) + inputs(75, 2)
    mixture = MixtureOfExperts(DirichletGate(3), GaussianExperts(3, 2, covariance=covariance))
    fit(mixture, y, y, n_restarts=6, progress=False)
    order = torch.cdist(centres, mixture.experts.means).argmin(-1)
    assert sorted(order.tolist()) == [0, 1, 2]
    assert (
        (mixture.experts.means[order] - centres).abs() < 4.0 * mixture.experts.mean_standard_deviations[order]
    ).all()


def test_parameters_are_counted() -> None:
    counts = [GaussianExperts(2, 3, covariance=covariance).n_parameters for covariance in STRUCTURES]
    assert counts == [2 * (3 + 6), 2 * (3 + 3), 2 * (3 + 1), 2 * 3 + 6]


def test_a_state_dict_keeps_its_layout() -> None:
    """Files of earlier versions have these names and shapes."""
    shapes = {name: list(value.shape) for name, value in GaussianExperts(3, 2).state_dict().items()}
    assert shapes == {
        "prior_mean": [2],
        "prior_mean_precision": [],
        "prior_degrees": [],
        "prior_scale": [2, 2],
        "y_origin": [2],
        "centred_means": [3, 2],
        "posterior_mean_precision": [3],
        "posterior_degrees": [3],
        "posterior_scale": [3, 2, 2],
    }
