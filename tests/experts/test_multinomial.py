"""Multinomial experts."""

import math

import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

from mixpyro import GLMExperts, HeterogeneousOutputs, LinearExperts, MixtureOfExperts, NeuralExperts, SoftmaxGate, fit
from mixpyro.distributions.multinomial import PreciseMultinomial
from mixpyro.distributions.quantiles import cumulative
from mixpyro.experts.families import Binomial, Categorical, Multinomial
from tests.experts.contract import N_FEATURES, EstimatedExpertsContract, K, by_gradient
from tests.problems import inputs, responsibilities


class TestMultinomial(EstimatedExpertsContract):
    """The contract, with totals and a prior, for few rows separate easily."""

    n_outputs = 3

    def make(self, n_components: int = K) -> GLMExperts:
        return GLMExperts(n_components, N_FEATURES, Multinomial(3), exposure=True, prior_scale=2.0)

    def data(self, n_objects: int = 30) -> tuple[Tensor, Tensor, Tensor]:
        x, totals, y = counts(n_objects)
        return torch.cat([x, totals], 1), y, responsibilities(n_objects, K)


def counts(n_objects: int) -> tuple[Tensor, Tensor, Tensor]:
    """x [N, 2], totals [N, 1] and counts [N, 3]."""
    x, totals = inputs(n_objects), 2.0 + torch.arange(n_objects).double().unsqueeze(-1) % 5
    logits = torch.cat([torch.zeros(n_objects, 1).double(), x], 1)
    return x, totals, PreciseMultinomial(totals.squeeze(-1), logits).sample()


def test_one_trial_a_row_is_the_categorical_family() -> None:
    x, r = inputs(60), responsibilities(60, 2)
    category = (torch.arange(60) % 3).double().unsqueeze(-1)
    indicators = torch.nn.functional.one_hot(category.squeeze(-1).long(), 3).double()
    one, other = GLMExperts(2, 2, Multinomial(3), prior_scale=3.0), GLMExperts(2, 2, Categorical(3), prior_scale=3.0)
    one.maximise(x, indicators, r)
    other.maximise(x, category, r)
    torch.testing.assert_close(one.coefficients, other.coefficients)
    expected = other.expected_log_likelihood(x, category)
    torch.testing.assert_close(one.expected_log_likelihood(x, indicators), expected)
    torch.testing.assert_close(one.predict(x), other.predict(x))


def test_two_categories_are_the_binomial_family() -> None:
    x, totals, y = counts(50)
    pair, r = torch.cat([y[:, :1] + y[:, 2:], y[:, 1:2]], 1), responsibilities(50, 2)
    rows = torch.cat([x, totals], 1)
    one, other = GLMExperts(2, 2, Multinomial(2), exposure=True), GLMExperts(2, 2, Binomial(), exposure=True)
    one.maximise(rows, pair, r)
    other.maximise(rows, pair[:, 1:], r)
    torch.testing.assert_close(one.coefficients, other.coefficients, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        one.expected_log_likelihood(rows, pair), other.expected_log_likelihood(rows, pair[:, 1:])
    )
    torch.testing.assert_close(one.predict(rows)[..., 1:], other.predict(rows))


def test_without_regressors_the_maximum_is_the_shares_of_all_trials() -> None:
    _, totals, y = counts(40)
    experts = GLMExperts(1, 0, Multinomial(3), exposure=True)
    experts.maximise(totals, y, torch.ones(40, 1).double())
    torch.testing.assert_close(experts.predict(totals)[:, 0], totals * y.sum(0) / y.sum())


def test_probabilities_sum_to_one_and_draws_have_their_moments() -> None:
    """Of all ways to put 4 trials into 3 categories, written down."""
    logits = torch.tensor([0.3, -1.0, 0.8]).double()
    p = logits.softmax(0)
    ways = torch.tensor([(a, b, 4 - a - b) for a in range(5) for b in range(5 - a)]).double()
    distribution = PreciseMultinomial(torch.tensor(4.0).double(), logits)
    by_hand = [
        math.factorial(4) * math.prod(float(q) ** int(n) / math.factorial(int(n)) for q, n in zip(p, way, strict=True))
        for way in ways
    ]
    torch.testing.assert_close(distribution.log_prob(ways).exp(), torch.tensor(by_hand).double())
    assert distribution.log_prob(ways + 1.0).isinf().all()
    draws = distribution.sample(torch.Size([4000]))
    assert set(draws.sum(-1).tolist()) == {4.0}
    torch.testing.assert_close(draws.mean(0), distribution.mean, atol=0.08, rtol=0)
    torch.testing.assert_close(draws.var(0), distribution.variance, atol=0.08, rtol=0)
    values = torch.tensor([[1.0, 0.0, 2.0]]).double()
    expected = (distribution.log_prob(ways).exp().unsqueeze(-1) * (ways <= values).double()).sum(0)
    torch.testing.assert_close(cumulative(distribution, values)[0], expected)


@pytest.mark.usefixtures("without_type_checks")
def test_a_mixture_with_another_outcome_has_pyros_elbo_as_its_bound() -> None:
    x, totals, y = counts(60)
    rows, outcome = torch.cat([x, totals], 1), torch.cat([y, x[:, :1] + 0.3 * torch.randn(60, 1).double()], 1)
    experts = HeterogeneousOutputs(
        [GLMExperts(2, 2, Multinomial(3), exposure=True, prior_scale=2.0), LinearExperts(2, 3)]
    )
    mixture, gate_x = MixtureOfExperts(SoftmaxGate(2, 0), experts), x[:, :0]
    fit(mixture, rows, outcome, gate_x=gate_x, n_restarts=2, progress=False)
    assert mixture.predict(rows, gate_x=gate_x).shape == (60, 4)
    alone = MixtureOfExperts(SoftmaxGate(2, 0), GLMExperts(2, 2, Multinomial(3), exposure=True, prior_scale=2.0))
    bound = fit(alone, rows, y, gate_x=gate_x, n_restarts=2, progress=False).bound
    elbo = -TraceEnum_ELBO(max_plate_nesting=1).loss(alone.model, alone.guide, rows, y, gate_x=gate_x)
    assert elbo == pytest.approx(bound, abs=1e-7)
    log_prob = alone.log_prob(rows, y, gate_x=gate_x)
    assert log_prob.sum().item() == pytest.approx(bound + alone.kl_divergence().item(), abs=1e-7)
    quantiles = alone.quantile(rows, torch.tensor([0.2, 0.8]).double(), gate_x=gate_x)
    assert bool((quantiles <= totals).all())
    assert bool((quantiles[1] >= quantiles[0]).all())


def test_networks_give_all_predictors() -> None:
    x, totals, y = counts(40)
    network = torch.nn.Linear(2, 2).double()
    experts = NeuralExperts(1, 2, network, Multinomial(3), exposure=True)
    rows, r = torch.cat([x, totals], 1), torch.ones(40, 1).double()
    for _ in range(6):
        experts.maximise(rows, y, r, by_gradient=by_gradient)
    glm = GLMExperts(1, 2, Multinomial(3), exposure=True)
    glm.maximise(rows, y, r)
    torch.testing.assert_close(experts.predict(rows), glm.predict(rows), rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("bad_arguments")
def test_bad_arguments_are_refused() -> None:
    x, totals, y = counts(5)
    with pytest.raises(ValueError, match=r"`y` must sum to the trials of its row.*got 2 of 1 in row 0. Use exposure"):
        GLMExperts(1, 2, Multinomial(3)).check_data(x, y)
    with pytest.raises(ValueError, match=r"`y` must have shape \[N, 3\]"):
        GLMExperts(1, 2, Multinomial(3), exposure=True).check_data(torch.cat([x, totals], 1), y[:, :2])
    with pytest.raises(ValueError, match="`n_categories` must be at least 2; got 1"):
        Multinomial(1)
