"""How far a Normal prior has moved an estimate from what the data say."""

import torch

from mixpyro.numerics.linear_predictors import LinearPredictors
from mixpyro.numerics.newton import MOST_DENSE, Coefficients

# Standard errors beyond which a prior says more of an estimate than the data do.
MOST_PULL = 2.0
# Number of objects beyond which the data should outweigh a prior.
MANY = 10.0
# Relative to the largest eigenvalue of the data's information: below it, they say nothing along a direction.
SMALLEST_INFORMATION = 1e-12


def prior_pull(functions: LinearPredictors, coefficients: Coefficients, number: int = 0) -> float:
    """Return how many standard errors of the data the prior has moved the estimate, √(g' I⁻¹ g).

    At a maximum the prior's pull g = λ b T'T balances the score of the data, and I is the data's information there: to
    first order the prior has moved the coefficients by I⁻¹ g. Where the data separate, I is next to nothing along a
    direction, and the prior decides how far the coefficients go.

    Args:
        functions: B log likelihoods with a prior.
        coefficients: their maximum [B, Q].
        number: of the function.

    Returns:
        A number, at least 0; 0 without a prior, and beyond 200 coefficients, where a dense information is too large.
    """
    if not functions.precision or coefficients.shape[1] > MOST_DENSE:
        return 0.0
    pull = (functions.split(coefficients)[number] @ functions.penalty).flatten()
    identity = torch.eye(functions.n_predictors, dtype=pull.dtype, device=pull.device)
    of_prior = torch.kron(identity, functions.penalty)
    of_data = functions.expansion(coefficients).information()[number] - of_prior
    # In units of the columns' own information, so that a ridge is no matter of units.
    scale = of_data.diagonal().clamp_min(torch.finfo(pull.dtype).tiny).rsqrt()
    scale = torch.where(of_data.diagonal() > 0.0, scale, 0.0)
    values, directions = torch.linalg.eigh(scale.unsqueeze(-1) * of_data * scale)
    values = values.clamp_min(SMALLEST_INFORMATION * float(values[-1].clamp_min(torch.finfo(values.dtype).tiny)))
    return float(((directions.mT @ (scale * pull)).square() / values).sum().sqrt())
