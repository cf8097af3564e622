"""Coefficients and scales of generalised linear models, estimated together."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.experts.families import Gaussian
from mixpyro.experts.weighted_likelihood import WeightedLikelihood
from mixpyro.numerics.linear_predictors import LinearPredictors
from mixpyro.numerics.newton import SMALLEST_GAIN, maximised
from mixpyro.numerics.tied_predictors import TiedPredictors


def maximised_all(
    functions: LinearPredictors | TiedPredictors,
    likelihood: WeightedLikelihood,
    coefficients: Float[Tensor, "B Q"],
    smallest: Float[Tensor, " P"],
    *,
    moves_coefficients: bool,
    moves_scales: bool,
    n_steps: int,
) -> Float[Tensor, "B Q"]:
    """Return coefficients at the maximum, with the scales that are estimated; ``likelihood`` holds these afterwards.

    Args:
        functions: of the likelihood.
        likelihood: with the scales to begin with.
        coefficients: to begin with.
        smallest: lower limit of a noise.
        moves_coefficients: whether coefficients are estimated.
        moves_scales: whether scales are.
        n_steps: most steps, at least 1.
    """
    if moves_scales:
        return maximised_with_scale(
            functions, likelihood, coefficients, smallest, n_steps=n_steps, moves_coefficients=moves_coefficients
        )
    if moves_coefficients:
        other = _common(functions, likelihood, coefficients) if n_steps > 1 else None
        return maximised(functions, coefficients, other, n_steps=n_steps, bounded=functions.bounded)
    return coefficients


def maximised_with_scale(
    functions: LinearPredictors | TiedPredictors,
    likelihood: WeightedLikelihood,
    coefficients: Float[Tensor, "B Q"],
    smallest: Float[Tensor, " P"],
    *,
    n_steps: int,
    moves_coefficients: bool = True,
) -> Float[Tensor, "B Q"]:
    """Return coefficients at the joint maximum with the scales, which ``likelihood`` holds afterwards.

    Coefficients and scales take turns. No value falls.

    Args:
        functions: of the likelihood.
        likelihood: with the scales to begin with.
        coefficients: to begin with.
        smallest: lower limit of a noise.
        n_steps: most turns, at least 1.
        moves_coefficients: whether they are estimated.
    """
    is_quadratic = isinstance(likelihood.family, Gaussian)
    looks_around = not is_quadratic and (n_steps > 1 or _is_new(likelihood))
    if moves_coefficients and looks_around and isinstance(functions, LinearPredictors):
        coefficients = _better_start(functions, likelihood, coefficients, smallest)
    values = functions.values(coefficients)
    for number in range(n_steps):
        if moves_coefficients:
            # One step is exact for a Gaussian: with a given noise the likelihood is quadratic. Others may begin far
            # out, where a likelihood is flat: two steps look back.
            inner = 2 if number == 0 and looks_around else 1
            bounded = None if is_quadratic else functions.bounded
            other = _common(functions, likelihood, coefficients) if inner > 1 else None
            coefficients = maximised(functions, coefficients, other, n_steps=inner, bounded=bounded)
        likelihood.estimate_scale(functions.predictors(coefficients), smallest)
        before, values = values, functions.values(coefficients)
        if not bool((values - before > SMALLEST_GAIN * (1.0 + before.abs())).any()):
            break
    return coefficients


def _common(
    functions: LinearPredictors | TiedPredictors, likelihood: WeightedLikelihood, like: Float[Tensor, "B Q"]
) -> Float[Tensor, "B Q"] | None:
    """Return coefficients of predictors that are the same for all rows of a component; None where zero serves."""
    predictors = likelihood.family.common_predictors(likelihood.y, likelihood.exposure, likelihood.responsibilities)
    if predictors is None:
        return None
    coefficients = torch.zeros_like(functions.original_coefficients(like))
    coefficients[..., 0] = predictors
    return functions.standardised_coefficients(coefficients)


def _is_new(likelihood: WeightedLikelihood) -> bool:
    """Return whether the scales of a component are those before any fit."""
    first = likelihood.scale.new_tensor(likelihood.family.first_scales)
    return bool((likelihood.scale == first).all(-1).any())


def _better_start(
    functions: LinearPredictors, likelihood: WeightedLikelihood, coefficients: Tensor, smallest: Tensor
) -> Tensor:
    """Return the coefficients of a regression by least squares where they are better, and let the scales be theirs."""
    response = likelihood.family.start(likelihood.y)
    if response is None:
        return coefficients
    ones = torch.ones_like(likelihood.scale[:, :1])
    squares = WeightedLikelihood(Gaussian(), response, likelihood.exposure, likelihood.responsibilities, ones)
    regression = copy.copy(functions)
    regression.terms = squares
    found = maximised(regression, torch.zeros_like(coefficients), n_steps=1)
    squares.estimate_scale(regression.predictors(found), smallest)
    values, own = functions.values(coefficients), likelihood.scale
    likelihood.scale = likelihood.family.scales_at_start(squares.scale.squeeze(-1))
    other_values = functions.values(found)
    better = ((other_values > values) | values.isnan()).unsqueeze(-1)
    likelihood.scale = torch.where(better, likelihood.scale, own)
    return torch.where(better, found, coefficients)
