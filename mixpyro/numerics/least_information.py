"""The direction along which a log likelihood is flattest."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

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
    generator = torch.Generator("cpu").manual_seed(0)
    random = torch.randn(len(grown), generator=generator, dtype=grown.dtype, device="cpu").to(grown.device)
    start = grown + 0.1 * (1.0 + grown.norm()) * random / random.norm()
    return float(smallest_eigenvalue(product, start, n_products=MOST_PRODUCTS))


# Relative to the largest eigenvalue: a smaller coupling to the next vector moves no eigenvalue beyond rounding.
SMALLEST_COUPLING = 1e-14


def smallest_eigenvalue(
    product: Callable[[Float[Tensor, " Q"]], Float[Tensor, " Q"]], start: Float[Tensor, " Q"], *, n_products: int
) -> Float[Tensor, ""]:
    """Return an upper limit of the smallest eigenvalue of a symmetric matrix, by the Lanczos method.

    It is the smallest eigenvalue within the Krylov space of the start, exact from Q products on and close to it after
    far fewer where the start has a large share of the eigenvector. Memory is that of ``n_products`` vectors.

    Args:
        product: multiplies the matrix [Q, Q] by a vector [Q].
        start: a vector with a share of every eigenvector [Q], float64, not zero.
        n_products: most products.

    References:
        Golub, Van Loan (2013), Matrix Computations, sections 10.1 and 10.3.

    Example:
        >>> matrix = torch.tensor([[2.0, 1.0], [1.0, 2.0]]).double()
        >>> round(float(smallest_eigenvalue(lambda v: matrix @ v, torch.tensor([1.0, 0.0]).double(), n_products=2)), 9)
        1.0
    """
    basis = (start / start.norm()).unsqueeze(0)
    projected = start.new_zeros(0, 0)
    for _ in range(min(n_products, len(start))):
        image = product(basis[-1])
        projected = torch.nn.functional.pad(projected, (0, 1, 0, 1))
        projected[-1] = projected[:, -1] = basis @ image
        # Twice, for once leaves rounding errors that grow from vector to vector.
        for _ in range(2):
            image = image - basis.mT @ (basis @ image)
        coupling = image.norm()
        if not bool(coupling > SMALLEST_COUPLING * projected.abs().max()):
            break
        basis = torch.cat([basis, (image / coupling).unsqueeze(0)])
    return torch.linalg.eigvalsh(projected)[0]
