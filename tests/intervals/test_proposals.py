"""Distributions that draws of all parameters come from."""

import pytest
import torch
from scipy import stats

from mixpyro import DirichletGate, GaussianExperts, LinearExperts, MixtureOfExperts, linear_response
from mixpyro.experts.base import Experts
from mixpyro.intervals.approximate_posterior import approximate_posterior
from mixpyro.intervals.densities import LogJoint
from mixpyro.intervals.proposals import MeanField, StudentT, root_of
from tests.intervals.line_fits import fitted, lines_fit, rows

pytestmark = pytest.mark.usefixtures("without_type_checks")


def test_the_t_distribution_is_that_of_scipy() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    scale, location = root @ root.mT + torch.eye(3).double(), torch.tensor([1.0, -2.0, 0.5]).double()
    own = StudentT(location, scale, 7.0)
    points = location + 3.0 * torch.randn(20, 3, generator=generator, dtype=torch.float64)
    known = stats.multivariate_t(location.numpy(), scale.numpy(), df=7.0).logpdf(points.numpy())
    torch.testing.assert_close(own.log_prob(points), torch.as_tensor(known), rtol=1e-12, atol=0)
    torch.manual_seed(0)
    draws = own.sample(40_000)
    distance = torch.linalg.solve(scale, (draws - location).mT).mT.mul(draws - location).sum(-1) / 3.0
    assert stats.kstest(distance.numpy(), stats.f(3, 7).cdf).pvalue > 1e-3
    with_covariance = StudentT.with_covariance(location, scale, 7.0)
    torch.testing.assert_close(7.0 / 5.0 * with_covariance.root @ with_covariance.root.mT, scale)


def test_a_covariance_that_rounding_has_made_indefinite_has_a_root() -> None:
    singular = torch.tensor([[4.0, 2.0], [2.0, 1.0 - 1e-15]], dtype=torch.float64)
    root = root_of(singular)
    torch.testing.assert_close(root @ root.mT, singular, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "experts",
    [LinearExperts(2, 1), LinearExperts(2, 1, noise_per_component=False), GaussianExperts(2, 1)],
    ids=["lines", "one noise", "densities"],
)
def test_mean_field_draws_have_their_density(experts: Experts) -> None:
    """E_q of exp(log r − log q) is one for any density r: here a t of the same mean."""
    x, y, start = rows(1)
    mixture = fitted(DirichletGate(2), experts, x, y, start).mixture
    joint = LogJoint(mixture, linear_response(mixture, x, y).table)
    own = MeanField(mixture, joint.parameters)
    torch.manual_seed(0)
    draws = own.sample(4000)
    narrow = StudentT(draws.mean(0), 0.2 * torch.cov(draws.mT), 50.0)
    ratio = (narrow.log_prob(draws) - own.log_prob(draws)).exp()
    assert abs(float(ratio.mean()) - 1.0) < 5.0 * float(ratio.std()) / 4000**0.5
    assert float(ratio.std()) < 30.0


def test_draws_have_the_moments_of_the_response() -> None:
    result, x, y = lines_fit(1)
    response = linear_response(result, x, y)
    proposal = approximate_posterior(response, LogJoint(response.mixture, response.table))
    assert isinstance(proposal, StudentT)
    torch.manual_seed(0)
    draws = proposal.sample(20_000)
    ratio = draws.std(0) / response.standard_deviations
    assert bool(((ratio - 1.0).abs() < 0.04).all())
    assert bool(((draws.mean(0) - response.estimates).abs() < 0.04 * response.standard_deviations).all())


def test_components_apart_are_drawn_from_the_posterior_itself() -> None:
    result, x, y = lines_fit(0)
    response = linear_response(result, x, y)
    assert response.missing_information < 0.01
    assert isinstance(approximate_posterior(response, LogJoint(response.mixture, response.table)), MeanField)


def test_few_objects_without_a_variance_still_have_draws() -> None:
    """A precision with a ≤ 1 has no mean variance: the t takes what the coordinates explain."""
    x, y, _ = rows(1)
    result = fitted(
        DirichletGate(1), LinearExperts(1, 1, noise_shape=1e-3, noise_rate=1e-3), x[:1], y[:1], x.new_ones(1, 1)
    )
    response = linear_response(result, x[:1], y[:1])
    assert bool(response.standard_deviations.isinf().any())
    finite = response.matrices.finite_covariance
    assert bool(finite.isfinite().all()) and bool((finite.diagonal() > 0).all())
    assert MixtureOfExperts is type(response.mixture)
