"""How far a Normal prior has moved an estimate from what the data say."""

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.numerics.least_information import MOST_RELATIVE
from mixpyro.numerics.linear_predictors import LinearPredictors
from mixpyro.numerics.newton import MOST_DENSE, Coefficients
from mixpyro.numerics.tied_predictors import TiedPredictors

# Standard errors beyond which a prior says more of an estimate than the data do.
MOST_PULL = 2.0
# Number of objects beyond which the data should outweigh a prior.
MANY = 10.0
# Relative to the largest eigenvalue of the columns' second moments. Below it, columns are collinear.
SMALLEST_MOMENT = 1e-10


def prior_pull(
    functions: LinearPredictors | TiedPredictors,
    coefficients: Coefficients,
    *,
    curvature: float,
    weights: Float[Tensor, "N _"],
    number: int = 0,
) -> float:
    """Return how many standard errors of the data the prior has moved the estimate, √(g' I⁻¹ g).

    At a maximum the prior's pull g = λ b T'T balances the score of the data, and I is the data's information there: to
    first order the prior has moved the coefficients by I⁻¹ g. Directions along which the likelihood is flat are left
    out: there the data separate, and a prior is what limits the coefficients.

    Args:
        functions: B log likelihoods with a prior.
        coefficients: their maximum [B, Q].
        curvature: of every row in every predictor, with which the information is compared.
        weights: of the rows in each function, of positive sum.
        number: of the function.

    Returns:
        A number, at least 0; 0 without a prior, where squares of the columns are no numbers of float64, and beyond 200
        coefficients, where a dense information is too large.
    """
    if not functions.precision or coefficients.shape[1] > MOST_DENSE:
        return 0.0
    moments, directions = torch.linalg.eigh(functions.moments(weights, number)[1])
    kept = moments > SMALLEST_MOMENT * moments.max()
    # In these columns the information of rows of that curvature is the identity.
    whitening = directions[:, kept] * (curvature * moments[kept]).rsqrt()
    identity = torch.eye(functions.n_predictors, dtype=whitening.dtype, device=whitening.device)
    whitening = torch.kron(identity, whitening)
    of_prior = torch.kron(identity, functions.penalty)
    of_data = functions.expansion(coefficients).information()[number] - of_prior
    relative = whitening.mT @ of_data @ whitening
    if not bool(relative.isfinite().all()):
        return 0.0
    values, axes = torch.linalg.eigh(relative)
    pull = (functions.split(coefficients)[number] @ functions.penalty).flatten() @ whitening @ axes
    steep = values > MOST_RELATIVE
    return float((pull[steep].square() / values[steep]).sum().sqrt())


def pull_of_normal_prior(
    information: Float[Tensor, "B Q Q"], slope: Float[Tensor, "B Q"], moments: Float[Tensor, "E E"], *, curvature: float
) -> float:
    """Return the same for coefficients in blocks, each of the same columns once or several times.

    Args:
        information: of the data in each block's coefficients.
        slope: g, what the prior pulls at the coefficients with.
        moments: Σ w uu' of the columns.
        curvature: as for :func:`prior_pull`.

    Returns:
        The largest number of a block.
    """
    n_predictors = slope.shape[-1] // len(moments)
    if not slope.numel() or slope.shape[-1] > MOST_DENSE:
        return 0.0
    scale = moments.diagonal().clamp_min(torch.finfo(moments.dtype).tiny).rsqrt()
    values, directions = torch.linalg.eigh(scale * moments * scale.unsqueeze(-1))
    kept = values > SMALLEST_MOMENT * values.max()
    whitening = scale.unsqueeze(-1) * directions[:, kept] * (curvature * values[kept]).rsqrt()
    whitening = torch.kron(torch.eye(n_predictors, dtype=moments.dtype, device=moments.device), whitening)
    whitened = whitening.mT @ information @ whitening
    if not bool(whitened.isfinite().all()):
        return 0.0
    relative, axes = torch.linalg.eigh(whitened)
    pull = ((slope @ whitening).unsqueeze(-2) @ axes).squeeze(-2)
    return float(torch.where(relative > MOST_RELATIVE, pull.square() / relative, 0.0).sum(-1).sqrt().amax())
