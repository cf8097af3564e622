"""Bayesian Gaussian mixtures against scikit-learn's, which another program wrote from the same chapter of Bishop."""

from typing import Any

import pytest
import torch
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from torch import Tensor

from mixpyro import DirichletGate, GaussianExperts, MixtureOfExperts, fit
from tests.experts.test_gaussian import clusters

K = 3
THEIR_NAMES = {"full": "full", "diagonal": "diag", "spherical": "spherical"}
MATRIX = torch.tensor([[1.5, 0.4], [0.4, 0.8]], dtype=torch.float64)
SCALES: dict[str, Any] = {"full": MATRIX, "diagonal": torch.tensor([1.5, 0.8], dtype=torch.float64), "spherical": 1.2}
# How far apart the clusters are, and to what their fit has converged then: it stops by the bound, which is flat there.
DATA = {"separate": (6.0, 1e-8), "overlapping": (0.6, 1e-5)}


def data(apart: float) -> tuple[Tensor, Tensor]:
    """150 points in two columns."""
    return clusters(150, 2, apart=apart, seed=1)


def theirs(y: Tensor, covariance: str) -> BayesianGaussianMixture:
    """Their mixture, fitted until its bound no longer changes."""
    scale = SCALES[covariance]
    mixture = BayesianGaussianMixture(
        n_components=K,
        covariance_type=THEIR_NAMES[covariance],
        weight_concentration_prior_type="dirichlet_distribution",
        weight_concentration_prior=0.7,
        mean_prior=[0.3, -0.1],
        mean_precision_prior=0.4,
        degrees_of_freedom_prior=3.3,
        covariance_prior=scale.numpy() if isinstance(scale, Tensor) else scale,
        reg_covar=0.0,
        tol=2e-12,
        max_iter=20_000,
        random_state=0,
    )
    return mixture.fit(y.numpy())


def ours(covariance: str) -> MixtureOfExperts:
    """The same prior in our arguments."""
    experts = GaussianExperts(
        K,
        2,
        covariance=covariance,
        mean=[0.3, -0.1],
        mean_precision=0.4,
        degrees_of_freedom=3.3,
        scale=SCALES[covariance],
    )
    return MixtureOfExperts(DirichletGate(K, concentration=0.7), experts)


def updated(y: Tensor, covariance: str, their_mixture: BayesianGaussianMixture) -> tuple[MixtureOfExperts, Tensor]:
    """Our mixture after an update with their responsibilities, and these."""
    mixture, r = ours(covariance), torch.as_tensor(their_mixture.predict_proba(y.numpy()))
    mixture.gate.update(mixture.gate.statistics(y, r))
    mixture.experts.update(mixture.experts.statistics(y, y, r))
    return mixture, r


def assert_same_posterior(mixture: MixtureOfExperts, other: BayesianGaussianMixture, tolerance: float) -> None:
    """Every parameter; their covariances are Ψ / ν."""
    experts = mixture.experts
    for mine, their in (
        (mixture.gate.posterior_concentration, other.weight_concentration_),
        (experts.means, other.means_),
        (experts.posterior_mean_precision, other.mean_precision_),
        (experts.posterior_degrees, other.degrees_of_freedom_),
        (experts.posterior_scale / experts.posterior.per_component(experts.posterior_degrees), other.covariances_),
    ):
        torch.testing.assert_close(mine, torch.as_tensor(their), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("apart", DATA)
@pytest.mark.parametrize("covariance", THEIR_NAMES)
def test_an_update_from_their_responsibilities_gives_their_posterior(covariance: str, apart: str) -> None:
    distance, tolerance = DATA[apart]
    _, y = data(distance)
    other = theirs(y, covariance)
    mixture, r = updated(y, covariance, other)
    assert_same_posterior(mixture, other, tolerance)
    if covariance == "full":
        torch.testing.assert_close(mixture.assign(y, y).responsibilities, r, rtol=tolerance, atol=tolerance)


@pytest.mark.filterwarnings("ignore:the prior of the means is far")
@pytest.mark.parametrize("apart", DATA)
def test_a_full_fit_of_ours_ends_where_theirs_ends(apart: str) -> None:
    """Ours begins near their optimum; from further away it finds a higher one."""
    _, y = data(DATA[apart][0])
    other = theirs(y, "full")
    mixture, start = ours("full"), 0.99 * torch.as_tensor(other.predict_proba(y.numpy())) + 0.01 / K
    fit(mixture, y, y, initial_responsibilities=start, tolerance=1e-13, max_iterations=5000, progress=False)
    assert_same_posterior(mixture, other, 1e-4)


@pytest.mark.parametrize("covariance", ["diagonal", "spherical"])
def test_otherwise_their_responsibilities_have_the_log_determinant_of_a_wishart(covariance: str) -> None:
    """Their updates are those of Gammas, as ours; their E log |Λ| is that of a Wishart of two columns, and lower."""
    _, y = data(DATA["overlapping"][0])
    other = theirs(y, covariance)
    mixture, r = updated(y, covariance, other)
    half = 0.5 * mixture.experts.posterior_degrees
    if covariance == "diagonal":
        of_gammas = 2.0 * torch.digamma(half)
    else:
        of_gammas = 2.0 * (torch.digamma(2.0 * half) - torch.log(torch.tensor(2.0)))
    missing = of_gammas - torch.digamma(half) - torch.digamma(half - 0.5)
    assert (missing > 0).all()
    log_joint = mixture.expected_log_joint(y, y)
    torch.testing.assert_close((log_joint - 0.5 * missing).softmax(-1), r, rtol=1e-5, atol=1e-5)
    assert (log_joint.softmax(-1) - r).abs().max() > 1e-4
    # So their answer is no optimum of the bound, and a step from it gains.
    bound = mixture.bound(y, y)
    result = fit(ours(covariance), y, y, initial_responsibilities=r, progress=False)
    assert result.bound > float(bound) + 1e-6


@pytest.mark.parametrize("covariance", ["diagonal", "spherical"])
def test_of_one_column_every_structure_is_theirs(covariance: str) -> None:
    _, y = data(DATA["overlapping"][0])
    y = y[:, :1]
    other = BayesianGaussianMixture(
        n_components=K,
        covariance_type=THEIR_NAMES[covariance],
        weight_concentration_prior_type="dirichlet_distribution",
        weight_concentration_prior=1.0,
        mean_prior=[0.0],
        mean_precision_prior=0.4,
        degrees_of_freedom_prior=3.3,
        covariance_prior=[1.2] if covariance == "diagonal" else 1.2,
        reg_covar=0.0,
        tol=2e-12,
        max_iter=20_000,
        random_state=0,
    ).fit(y.numpy())
    experts = GaussianExperts(K, 1, covariance=covariance, mean_precision=0.4, degrees_of_freedom=3.3, scale=1.2)
    mixture, r = MixtureOfExperts(DirichletGate(K), experts), torch.as_tensor(other.predict_proba(y.numpy()))
    mixture.gate.update(mixture.gate.statistics(y, r))
    mixture.experts.update(mixture.experts.statistics(y, y, r))
    assert_same_posterior(mixture, other, 1e-4)
    torch.testing.assert_close(mixture.assign(y, y).responsibilities, r, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("without_type_checks")
def test_a_tied_covariance_of_many_rows_is_the_maximum_of_the_likelihood() -> None:
    """Every row counts a million times, which leaves nothing of the prior nor of the posterior's width."""
    x, y = data(1.5)
    theirs = GaussianMixture(K, covariance_type="tied", reg_covar=0.0, tol=1e-13, max_iter=20_000, random_state=0)
    theirs.fit(y.numpy())
    start = torch.as_tensor(theirs.predict_proba(y.numpy()))
    mixture = MixtureOfExperts(DirichletGate(K), GaussianExperts(K, 2, covariance="tied"))
    weights = torch.full((len(y),), 1e6).double()
    result = fit(mixture, x, y, weights=weights, initial_responsibilities=start, tolerance=1e-13, progress=False)
    experts = result.mixture.experts
    torch.testing.assert_close(experts.means, torch.as_tensor(theirs.means_), rtol=0, atol=1e-4)
    expected = torch.as_tensor(theirs.covariances_).expand(K, 2, 2)
    torch.testing.assert_close(experts.covariances, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(result.responsibilities, start, rtol=0, atol=1e-4)
    log_prob = result.mixture.log_prob(x, y).mean()
    assert float(log_prob) == pytest.approx(theirs.score(y.numpy()), abs=1e-6)
