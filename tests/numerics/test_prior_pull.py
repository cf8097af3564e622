"""How far a prior has moved an estimate."""

import pytest
import torch
from torch import Tensor

from mixpyro.experts.families import Binomial, Family, Gaussian
from mixpyro.experts.weighted_likelihood import WeightedLikelihood
from mixpyro.numerics.linear_predictors import LinearPredictors
from mixpyro.numerics.newton import maximised
from mixpyro.numerics.prior_pull import prior_pull
from tests.problems import inputs


def functions(family: Family, x: Tensor, y: Tensor, prior_scale: float | None) -> LinearPredictors:
    """The log likelihood of one component that all rows belong to."""
    ones = torch.ones(len(x), 1).double()
    terms = WeightedLikelihood(family, y, ones.unsqueeze(-1), ones, torch.ones(1, 1).double())
    return LinearPredictors(x, terms, n_predictors=1, prior_scale=prior_scale)


def estimate(problem: LinearPredictors) -> Tensor:
    """The maximum [1, Q]."""
    return maximised(problem, torch.zeros(1, problem.columns.shape[1]).double(), n_steps=100)


@pytest.mark.parametrize("prior_scale", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("unit", [1.0, 1e-3])
def test_of_a_quadratic_likelihood_it_is_the_distance_from_its_maximum(prior_scale: float, unit: float) -> None:
    x = inputs(60, 2) + 3.0
    y = 2.0 + x[:, :1] + 0.5 * inputs(60, 1, seed=1)
    x, prior_scale = unit * x, prior_scale / unit
    free, held = (functions(Gaussian(), x, y, scale) for scale in (None, prior_scale))
    best, moved = estimate(free), estimate(held)
    information = free.expansion(moved).information()[0]
    distance = ((best - moved) @ information * (best - moved)).sum().sqrt()
    assert prior_pull(held, moved) == pytest.approx(float(distance), rel=1e-5)
    assert prior_pull(free, best) == 0.0


def test_a_prior_that_alone_limits_a_separating_slope_pulls_hard() -> None:
    x = torch.linspace(-1, 1, 40).double().unsqueeze(1)
    separate, mixed = (x > 0).double(), (torch.arange(40) % 3 > 0).double().unsqueeze(1)
    problems = [functions(Binomial(), x, y, 2.0) for y in (separate, mixed)]
    pulls = [prior_pull(problem, estimate(problem)) for problem in problems]
    assert pulls[0] > 1.5
    assert pulls[1] < 0.5
