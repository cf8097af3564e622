"""The direction along which a log likelihood is flattest."""

import torch

from mixpyro.numerics.lanczos import smallest_eigenvalue
from mixpyro.numerics.linear_predictors import LinearPredictors
from mixpyro.numerics.newton import MOST_DENSE, Coefficients

# Relative to the largest eigenvalue of the columns' second moments. Below it, columns are collinear.
SMALLEST_MOMENT = 1e-10
# Products with the information. Where a maximum lay at infinity, 25 were enough to find the flat direction.
MOST_PRODUCTS = 60


def least_information(functions: LinearPredictors, coefficients: Coefficients, *, curvature: float) -> float:
    """Return the least information along a direction in which the predictors of one function vary.

    Beyond 60 coefficients it is an upper limit, found by the Lanczos method. The method begins at the coefficients:
    where the maximum lies at infinity, they have grown along the flat direction.

    Args:
        functions: one log likelihood.
        coefficients: the point [1, Q].
        curvature: of every row in every predictor, with which the information is compared.

    Returns:
        The information, relative to that of rows of the given curvature.
    """
    expansion = functions.expansion(coefficients)
    moments, directions = torch.linalg.eigh(functions.gram * (curvature * len(functions.columns)))
    kept = moments > SMALLEST_MOMENT * moments.max()
    # In these columns the information to compare with is the identity.
    whitening = directions[:, kept] * moments[kept].rsqrt()
    information = expansion.information()[0] if coefficients.shape[1] <= MOST_DENSE else None

    def product(direction: torch.Tensor) -> torch.Tensor:
        original = (direction.unflatten(0, (functions.n_predictors, -1)) @ whitening.mT).flatten()
        if information is None:
            image = expansion.information_product(original.unsqueeze(0))
        else:
            image = (information @ original).unsqueeze(0)
        return (functions.split(image)[0] @ whitening).flatten()

    grown = (functions.split(coefficients)[0] @ directions[:, kept] * moments[kept].sqrt()).flatten()
    # A tenth of the length in a random direction, so that the start has a share of every eigenvector.
    random = torch.randn(len(grown), generator=torch.Generator().manual_seed(0), dtype=grown.dtype).to(grown.device)
    start = grown + 0.1 * (1.0 + grown.norm()) * random / random.norm()
    return float(smallest_eigenvalue(product, start, n_products=MOST_PRODUCTS))
