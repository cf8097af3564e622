"""Regressions that find out which inputs matter."""

import copy
import math
from typing import Any

import pytest
import torch
from pyro import poutine
from pyro.distributions import Gamma, MultivariateStudentT
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, RelevanceLinearExperts, fit
from mixpyro.conjugate.normal_gamma import LinearStatistics
from mixpyro.conjugate.relevance import Relevance
from mixpyro.experts import Experts
from tests.experts.contract import N_FEATURES, ConjugateExpertsContract, K
from tests.problems import inputs, lines, responsibilities


class ConvergedExperts(RelevanceLinearExperts):
    """Every update goes on until it no longer changes anything."""

    def updated(self, statistics: LinearStatistics, before: Relevance) -> Relevance:
        return self.prior.updated(statistics, before, n_sweeps=5000)


class TestRelevanceLinearExperts(ConjugateExpertsContract):
    """The contract, with two outputs. Under this prior every column keeps an effect, so there is one optimum."""

    n_outputs = 2

    def make(self, n_components: int = K) -> RelevanceLinearExperts:
        return ConvergedExperts(n_components, N_FEATURES, 2, column_precision_shape=2.0, column_precision_rate=1.0)

    def test_kl_divergence_is_float64_positive_after_data_and_zero_before(self) -> None:
        """Not zero before: the prior, in which w depends on λ, does not factorise. Draws give its value."""
        for experts in (self.make(), self.updated()[0]):
            assert experts.kl_divergence().dtype == torch.float64
            exact, (mean, error) = experts.kl_divergence(), sampled_divergence(experts)
            assert exact > 0
            assert abs(mean - exact) < 4.5 * error


def sampled_divergence(experts: Experts, n_draws: int = 150) -> tuple[Tensor, Tensor]:
    """Mean of log q − log p over draws of the guide, and its standard error."""
    x = torch.zeros(1, N_FEATURES).double()
    draws = []
    for _ in range(n_draws):
        guide = poutine.trace(experts.guide).get_trace(x)
        model = poutine.trace(poutine.replay(experts.model, guide)).get_trace(x)
        draws.append(float(guide.log_prob_sum() - model.log_prob_sum()))
    values = torch.tensor(draws, dtype=torch.float64)
    return values.mean(), values.std() / n_draws**0.5


def simulated(n_objects: int = 400, n_features: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    """Two planes that depend on two columns each: x, y [N, 1] and the coefficients [2, D]."""
    x = inputs(n_objects, n_features)
    coefficients = torch.zeros(2, n_features, dtype=torch.float64)
    coefficients[0, :2], coefficients[1, 1:3] = torch.tensor([2.0, -1.0]), torch.tensor([1.5, 0.5])
    z = (inputs(n_objects, 1, seed=1)[:, 0] > 0).long()
    y = (x * coefficients[z]).sum(-1, keepdim=True) + 3.0 * z.unsqueeze(-1) + 0.5 * inputs(n_objects, 1, seed=2)
    return x, y, coefficients


@pytest.mark.filterwarnings("ignore:only one of")
def test_columns_without_effect_shrink_and_the_others_do_not() -> None:
    x, y, truth = simulated()
    plain, relevance = (
        MixtureOfExperts(DirichletGate(2), kind(2, 10)) for kind in (LinearExperts, RelevanceLinearExperts)
    )
    bounds = [fit(mixture, x, y, n_restarts=4).bound for mixture in (plain, relevance)]
    assert bounds[1] > bounds[0] + 20
    errors = []
    for mixture in (plain, relevance):
        found = mixture.experts.coefficients[:, 0]
        found = found[found[:, 0].argsort(), 1:]
        errors.append(((found[truth == 0]).square().mean().sqrt(), (found - truth)[truth != 0].square().mean().sqrt()))
    # One column of sixteen keeps the effect that it has by chance.
    assert errors[1][0] < 0.5 * errors[0][0]
    assert errors[1][1] < 1.2 * errors[0][1]
    order = relevance.experts.coefficients[:, 0, 0].argsort()
    precisions = relevance.experts.column_precisions[order]
    assert precisions[truth == 0].median() > 100 * precisions[truth != 0].max()


@pytest.mark.parametrize("shared", [{}, {"noise_per_output": False}, {"noise_per_component": False}])
def test_no_iteration_lowers_the_bound(shared: dict[str, bool]) -> None:
    x, y, _ = lines(80, 2, n_features=3, n_outputs=2)
    mixture = MixtureOfExperts(DirichletGate(2), RelevanceLinearExperts(2, 3, 2, **shared))  # type: ignore[arg-type]
    trace = fit(mixture, x, y, n_restarts=1, tolerance=1e-9).trace
    steps = torch.tensor(trace, dtype=torch.float64).diff()
    assert len(trace) > 5
    assert steps.min() > -1e-9


def test_an_update_is_an_optimum_in_the_precisions_of_the_columns() -> None:
    """Any other q(λ) beside the same q(w, τ) has a smaller bound, to second order in the difference."""
    x, y, _ = lines(60, 1, n_features=3)
    experts = ConvergedExperts(1, 3)
    ones = torch.ones(60, 1).double()
    experts.update(experts.statistics(x, y, ones))
    best = experts.partial_bound(x, y, ones)
    for column in range(3):
        for factor in (0.99, 1.01):
            other = copy.deepcopy(experts)
            changed = other.column_precisions.clone()
            changed[0, column] *= factor
            other.hold_posterior(other.posterior._replace(column_precision=changed))
            assert -1e-3 < other.partial_bound(x, y, ones) - best < 0


def test_the_bound_lies_a_little_below_the_log_evidence() -> None:
    """With one column λ can be integrated out by quadrature, y being multivariate Student-t given λ."""
    x = inputs(30, 1)
    y = 0.4 * x + 0.5 * inputs(30, 1, seed=1)
    arguments = {"column_precision_shape": 1.5, "column_precision_rate": 0.3, "noise_shape": 2.0, "noise_rate": 0.7}
    experts = ConvergedExperts(1, 1, intercept=False, **arguments)  # type: ignore[arg-type]
    ones = torch.ones(30, 1).double()
    experts.update(experts.statistics(x, y, ones))
    log_precisions = torch.linspace(-12, 12, 2001, dtype=torch.float64)
    scales = 0.7 / 2.0 * (torch.eye(30).double() + x @ x.T / log_precisions.exp()[:, None, None])
    student = MultivariateStudentT(
        torch.tensor(4.0).double(), torch.zeros(30).double(), torch.linalg.cholesky(scales)
    ).log_prob(y[:, 0])
    prior = Gamma(torch.tensor(1.5).double(), torch.tensor(0.3).double()).log_prob(log_precisions.exp())
    step = float(log_precisions[1] - log_precisions[0])
    evidence = (student + prior + log_precisions).logsumexp(0) + math.log(step)
    assert 0 < evidence - experts.partial_bound(x, y, ones) < 0.1


@pytest.mark.usefixtures("without_type_checks")
def test_the_elbo_of_model_and_guide_is_the_bound_on_average() -> None:
    """On average only: λ and w are dependent in the posterior, but not in the guide."""
    x, y, _ = lines(25, K, n_features=2, n_outputs=2)
    mixture = MixtureOfExperts(DirichletGate(K), RelevanceLinearExperts(K, 2, 2, noise_per_output=False))
    r = responsibilities(25, K)
    mixture.gate.update(mixture.gate.statistics(x, r))
    mixture.experts.update(mixture.experts.statistics(x, y, r))
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    draws = torch.tensor([-elbo.loss(mixture.model, mixture.guide, x, y) for _ in range(150)], dtype=torch.float64)
    assert abs(draws.mean() - mixture.bound(x, y)) < 4 * draws.std() / 150**0.5


def test_the_origin_makes_no_difference() -> None:
    x, y, _ = lines(60, 1, n_features=3)
    y = y + 2.0
    ones = torch.ones(60, 1).double()
    given: dict[str, Any] = {"coefficient_precision": 0.01, "column_precision_rate": 1e-4, "noise_rate": 0.01}
    near, far = RelevanceLinearExperts(1, 3, **given), RelevanceLinearExperts(1, 3, **given)
    far.centre(x, y)
    for experts in (near, far):
        experts.update(experts.statistics(x, y, ones))
    assert not torch.equal(near.x_origin, far.x_origin)
    torch.testing.assert_close(near.partial_bound(x, y, ones), far.partial_bound(x, y, ones), rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(near.coefficients, far.coefficients)
    torch.testing.assert_close(near.column_precisions, far.column_precisions)


def test_centring_forgets_the_data() -> None:
    x, y, _ = lines(60, K, n_features=N_FEATURES)
    experts, fresh = RelevanceLinearExperts(K, N_FEATURES), RelevanceLinearExperts(K, N_FEATURES)
    experts.update(experts.statistics(x, y, responsibilities(60, K)))
    for one in (experts, fresh):
        one.centre(x, y)
    assert experts.kl_divergence() == fresh.kl_divergence()


def test_float32_finds_the_same() -> None:
    x, y, _ = simulated()
    x, r = 10.0 + x, responsibilities(400, 2)
    exact, rounded = RelevanceLinearExperts(2, 10), RelevanceLinearExperts(2, 10, dtype=torch.float32)
    for experts, dtype in ((exact, torch.float64), (rounded, torch.float32)):
        data = x.to(dtype), y.to(dtype)
        experts.centre(*data)
        experts.update(experts.statistics(*data, r.to(dtype)))
    torch.testing.assert_close(rounded.coefficients, exact.coefficients, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(rounded.kl_divergence(), exact.kl_divergence(), rtol=1e-3, atol=0)


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_features": 0}, ValueError, "`n_features` must be at least 1; got 0"),
        ({"coefficient_precision": [1.0, 1.0, 1.0]}, TypeError, "`coefficient_precision` must be a number"),
        ({"column_precision_shape": 0.0}, ValueError, "`column_precision_shape` must be finite and above 0; got 0.0"),
        ({"column_precision_rate": -1.0}, ValueError, "`column_precision_rate` must be finite and above 0; got .-1.0"),
    ],
)
def test_bad_priors_are_refused(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        RelevanceLinearExperts(2, **{"n_features": 2, **arguments})  # type: ignore[arg-type]


def test_a_state_dict_keeps_its_layout() -> None:
    """Files of earlier versions have these names, but for the origin and the start, and a single rate."""
    shapes = {name: list(value.shape) for name, value in RelevanceLinearExperts(3, 2, 2).state_dict().items()}
    assert shapes == {
        "prior_mean": [3, 2, 3],
        "prior_precision": [3, 3, 3],
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
        "column_prior_shape": [],
        "column_prior_rate": [2],
        "column_start": [2],
    }


def test_the_precisions_of_columns_have_their_distributions() -> None:
    """At convergence λ ~ Gamma(c₀ + ½ P, d₀ + ½ Σₚ E τₚ wₚ²), from the posterior of w and τ."""
    experts = TestRelevanceLinearExperts().updated()[0]
    prior, posterior = experts.column_prior, experts.column_posterior
    assert prior.batch_shape == posterior.batch_shape == (K, N_FEATURES)
    assert (prior.concentration == 2.0).all() and (prior.rate == 1.0).all()
    q = experts.regression
    squares = q.noise.mean[..., None] * q.mean.square() + q.precision.inverse().diagonal(dim1=-2, dim2=-1)[:, None]
    torch.testing.assert_close(posterior.concentration, torch.full((K, N_FEATURES), 3.0).double())
    torch.testing.assert_close(posterior.rate, 1.0 + 0.5 * squares.sum(1)[:, -N_FEATURES:], rtol=1e-6, atol=0.0)
    torch.testing.assert_close(posterior.mean, experts.column_precisions)
