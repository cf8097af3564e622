"""Likelihoods, priors and predictions under draws: their sums, their blocks, and what is left out."""

import warnings

import numpy as np
import pytest
import torch

from mixpyro import (
    DirichletGate,
    GLMExperts,
    HeterogeneousExperts,
    MixtureOfExperts,
    PointMassExperts,
    SoftmaxGate,
    fit,
    to_arviz,
)
from mixpyro.diagnostics import khat, loo, under_draws
from mixpyro.diagnostics.arviz_versions import datasets_of, group
from mixpyro.experts.families import Poisson
from mixpyro.numerics import blocks
from tests import products
from tests.diagnostics.fits import GATES, fitted

pytestmark = pytest.mark.usefixtures("without_type_checks")

Y = "experts.y"


@pytest.mark.parametrize("name", ["dirichlet", "object", "marginal"])
def test_log_prior_and_log_likelihood_sum_to_lp(name: str) -> None:
    result, x, y = fitted(name)
    data = to_arviz(result, x, y, n_draws=9)
    log_prior = group(data, "log_prior")
    assert set(log_prior) == set(group(data, "posterior"))
    total = sum(one.values for one in log_prior.values()) + group(data, "log_likelihood_of_guide")[Y].values.sum(-1)
    np.testing.assert_allclose(group(data, "sample_stats")["lp"].values, total, rtol=1e-12)
    assert "log_prior_left_out" not in group(data, "posterior").attrs


def test_log_prior_of_weights_is_that_of_their_dirichlet() -> None:
    result, x, y = fitted()
    data = to_arviz(result, x, y, n_draws=9)
    weights = torch.as_tensor(group(data, "posterior")["gate.weights"].values)
    prior = torch.distributions.Dirichlet(result.mixture.gate.prior_concentration)
    np.testing.assert_allclose(group(data, "log_prior")["gate.weights"].values, prior.log_prob(weights), rtol=1e-12)


@pytest.mark.parametrize("name", GATES)
def test_predictions_of_the_prior_lie_about_its_draws(name: str) -> None:
    """Predictions of the prior have the locations of its draws; where a parameter has no prior there are none."""
    result, x, y = fitted(name)
    data = to_arviz(result, x, y, n_draws=400)
    if name == "neural":
        assert "prior_predictive" not in datasets_of(data)
        why = group(data, "posterior").attrs["prior_predictive_left_out"]
        assert why == "no draws from a prior of gate.network.weight, gate.network.bias"
        return
    prior = group(data, "prior")
    coefficients = prior["experts.coefficients"].values[0, :, :, 0]
    weights = prior["gate.weights"].values[0] if "gate.weights" in prior else result.mixture.gate.weights(x[:1]).numpy()
    column = torch.cat([torch.ones(len(x), 1).double(), x], 1).numpy()
    location = np.einsum("sk,ske,ne->sn", np.broadcast_to(weights, coefficients.shape[:2]), coefficients, column)
    predicted = group(data, "prior_predictive")[Y].values[0]
    assert predicted.shape == (400, len(x))
    # Both are medians over draws of a distribution of heavy tails.
    spread = np.median(np.abs(predicted - np.median(predicted)))
    assert np.median(predicted - location) == pytest.approx(0.0, abs=0.1 * spread)
    assert np.median(np.abs(predicted)) > np.median(np.abs(group(data, "posterior_predictive")[Y].values))


def test_counts_too_large_for_a_number_are_left_out() -> None:
    x = torch.linspace(-1.0, 1.0, 30).double().unsqueeze(1)
    y = torch.poisson(torch.ones(30).double())
    mixture = MixtureOfExperts(DirichletGate(2), GLMExperts(2, 1, Poisson(), prior_scale=1e4))
    result = fit(mixture, x, y, n_restarts=1, progress=False)
    data = to_arviz(result, x, y, n_draws=30)
    assert "prior_predictive" not in datasets_of(data)
    assert "too large for a number" in group(data, "posterior").attrs["prior_predictive_left_out"]


def test_values_between_whole_numbers_are_kept() -> None:
    """A point mass has a probability, and need not be at a count."""
    experts = HeterogeneousExperts([PointMassExperts(1, 0.5), PointMassExperts(1, 2.0)])
    x, y = torch.zeros(6, 1).double(), torch.tensor([0.5, 2.0, 2.0, 0.5, 0.5, 0.5]).double()
    data = to_arviz(MixtureOfExperts(DirichletGate(2), experts), x, y, n_draws=5)
    for name in ("observed_data", "posterior_predictive", "prior_predictive"):
        assert set(np.unique(group(data, name)[Y].values)) == {0.5, 2.0}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
# A dispersion that is estimated has no prior to draw from.
@pytest.mark.parametrize("experts", sorted(products.COUNTS - {"negative binomial"}))
def test_counts_of_every_family(experts: str) -> None:
    mixture, (x, y) = products.fitted("dirichlet", experts), products.data(experts)
    data = to_arviz(mixture, x, y, n_draws=8)
    for name in ("observed_data", "posterior_predictive", "prior_predictive"):
        values = group(data, name)[Y].values
        assert values.dtype == np.int64
        assert values.min() >= 0
    np.testing.assert_array_equal(group(data, "observed_data")[Y].values, y.numpy())


def test_blocks_give_the_numbers_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    result, x, y = fitted()
    whole = to_arviz(result, x, y, n_draws=60)
    expected = loo(whole)
    monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(numbers=300, least_rows=1, most_rows=17, program_factor=1))
    parts = to_arviz(result, x, y, n_draws=60)
    for name in ("log_likelihood_of_guide", "log_prior", "sample_stats"):
        for variable, values in group(whole, name).items():
            np.testing.assert_allclose(group(parts, name)[variable].values, values.values, rtol=1e-10, atol=1e-12)
    found = loo(parts)
    np.testing.assert_allclose(found.pointwise, expected.pointwise, rtol=1e-10)
    np.testing.assert_allclose(found.pareto_k, expected.pareto_k, rtol=1e-6)


def test_groups_of_all_objects_may_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    result, x, y = fitted()
    whole = to_arviz(result, x, y, n_draws=50)
    names = ["log_likelihood", "posterior_predictive", "prior_predictive"]
    small = to_arviz(result, x, y, n_draws=50, leave_out=names)
    assert set(datasets_of(whole)) - set(datasets_of(small)) == {"log_likelihood_of_guide", *names[1:]}
    assert khat(small) == pytest.approx(khat(whole))
    with pytest.raises(ValueError, match=r"must have a group 'log_likelihood_of_guide' or .*`leave_out`"):
        loo(small)
    with pytest.raises(ValueError, match=r"`leave_out` must be of log_likelihood, .*; got posterior"):
        to_arviz(result, x, y, leave_out=["posterior"])
    monkeypatch.setattr(under_draws, "LARGE", 8 * 50 * len(x))
    with pytest.warns(RuntimeWarning, match=r"GiB of memory. Pass `leave_out=\['prior_predictive', 'posterior_pred"):
        to_arviz(result, x, y, n_draws=50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_arviz(result, x, y, n_draws=20, leave_out=names)


def test_prior_predictive_of_a_gate_with_a_prior() -> None:
    """Every parameter has a prior here, so y does too, though the estimates are no draws."""
    mixture = MixtureOfExperts(SoftmaxGate(2, 1, prior_scale=1.0), fitted()[0].mixture.experts)
    _, x, y = fitted()
    data = to_arviz(mixture, x, y, n_draws=7)
    assert group(data, "prior_predictive")[Y].shape == (1, 7, len(x))
