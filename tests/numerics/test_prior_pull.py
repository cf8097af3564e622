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
    assert pull(held, moved) == pytest.approx(float(distance), rel=1e-5)
    assert pull(free, best) == 0.0


def pull(problem: LinearPredictors, coefficients: Tensor, curvature: float = 1.0) -> float:
    """That of the one function, all rows counting once."""
    weights = torch.ones(len(problem.columns), 1).double()
    return prior_pull(problem, coefficients, curvature=curvature, weights=weights)


@pytest.mark.parametrize("prior_scale", [3.0, 10.0, 100.0])
def test_a_prior_that_limits_a_separating_slope_is_what_it_is_for(prior_scale: float) -> None:
    x = torch.linspace(-1, 1, 400).double().unsqueeze(1)
    problem = functions(Binomial(), x, (x > 0).double(), prior_scale)
    assert pull(problem, estimate(problem), 0.25) < 2.0


def test_a_prior_at_the_wrong_place_pulls_hard() -> None:
    """On an intercept at year zero, where it should be at the year 2000."""
    x = 2000.0 + 10.0 * inputs(300, 1)
    y = (
        torch.rand(300, 1, generator=torch.Generator().manual_seed(0)).double() < (0.2 * (x - 2000.0)).sigmoid()
    ).double()
    problem = functions(Binomial(), x, y, 1.0)
    assert pull(problem, estimate(problem), 0.25) > 2.0
    assert (
        pull(functions(Binomial(), x - 2000.0, y, 1.0), estimate(functions(Binomial(), x - 2000.0, y, 1.0)), 0.25) < 0.5
    )
