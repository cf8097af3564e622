"""What can be said of the estimates of linear layers: GLMs, or the last layers of networks."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from mixpyro.experts.families import Family
from mixpyro.experts.weighted_likelihood import WeightedLikelihood
from mixpyro.numerics.least_information import FlatDirection, flattest_direction
from mixpyro.numerics.linear_predictors import LinearPredictors
from mixpyro.numerics.prior_pull import MANY, MOST_PULL, prior_pull
from mixpyro.shapes import Outputs, Responsibilities

# Objects of a component below which nothing is said of its maximum.
FEWEST_OBJECTS = 0.5

# First component, inputs [N, E], coefficients [B, C, 1 + E].
Layer = tuple[int, Tensor, Tensor]


@torch.no_grad()
def separated(
    family: Family,
    layers: Iterable[Layer],
    y: Outputs,
    exposure: Tensor,
    responsibilities: Responsibilities,
    *,
    scale: Tensor,
) -> list[tuple[int, FlatDirection]]:
    """Return the components whose likelihood has its maximum at infinity, each with the direction.

    Args:
        family: without a noise.
        layers: estimated without a prior.
        y: outputs [N, P].
        exposure: [N, 1, 1].
        responsibilities: [N, K].
        scale: σ [K, S], ones of a family without.
    """
    even, found = _even_curvature(family, y, exposure, scale), []
    for first, columns, coefficients in layers:
        own = slice(first, first + len(coefficients))
        r = responsibilities[:, own]
        terms = WeightedLikelihood(family, y, exposure, r, scale.expand(responsibilities.shape[1], -1)[own])
        functions = LinearPredictors(columns, terms, n_predictors=family.n_predictors)
        point = functions.standardised_coefficients(coefficients)
        for k in (r.sum(0) > FEWEST_OBJECTS).nonzero().flatten().tolist():
            curvature = float((r[:, k] * even[:, first + k]).sum() / r[:, k].sum())
            direction = flattest_direction(functions, point, curvature=curvature, weights=r, number=k)
            if direction.is_unbounded:
                found.append((first + k, direction))
    return found


@torch.no_grad()
def pulled(
    family: Family,
    layers: Iterable[Layer],
    y: Outputs,
    exposure: Tensor,
    responsibilities: Responsibilities,
    *,
    scale: Tensor,
    prior_scale: float,
) -> Iterator[tuple[int, float]]:
    """Yield the components whose estimates a prior has moved far, each with the number of standard errors.

    Args:
        family: of the likelihood.
        layers: estimated with the prior.
        y: outputs [N, P].
        exposure: [N, 1, 1].
        responsibilities: [N, K].
        scale: σ [K, S].
        prior_scale: of the Normal(0, s²) prior on every coefficient.
    """
    even = _even_curvature(family, y, exposure, scale)
    for first, columns, coefficients in layers:
        own = slice(first, first + len(coefficients))
        r = responsibilities[:, own]
        terms = WeightedLikelihood(family, y, exposure, r, scale.expand(responsibilities.shape[1], -1)[own])
        functions = LinearPredictors(columns, terms, n_predictors=family.n_predictors, prior_scale=prior_scale)
        point = functions.standardised_coefficients(coefficients)
        for k in (r.sum(0) > MANY).nonzero().flatten().tolist():
            curvature = float((r[:, k] * even[:, first + k]).sum() / r[:, k].sum())
            pull = prior_pull(functions, point, curvature=curvature, weights=r, number=k)
            if pull > MOST_PULL:
                yield first + k, pull


def _even_curvature(family: Family, y: Outputs, exposure: Tensor, scale: Tensor) -> Tensor:
    """Return the curvature of every row's log density where all predictors are zero [N, K], float64."""
    eta = y.new_zeros(len(y), len(scale), family.n_predictors)
    return family.observed_curvature(y, eta, exposure, scale).diagonals().mean(2).double()
