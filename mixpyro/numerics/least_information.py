"""The direction along which a log likelihood is flattest."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.numerics.linear_predictors import LinearPredictors
from mixpyro.numerics.newton import MOST_DENSE, Coefficients
from mixpyro.numerics.tied_predictors import TiedPredictors

# Relative to the largest eigenvalue of the columns' second moments. Below it, columns are collinear.
SMALLEST_MOMENT = 1e-10
# Products with the information. Where a maximum lay at infinity, 25 were enough to find the flat direction.
MOST_PRODUCTS = 60
# Information along a direction, relative to that of even weights, beyond which a likelihood is not flat.
MOST_RELATIVE = 1e-2
# Square of a Wald statistic. Where the maximum lies at infinity it falls to zero as the coefficients grow.
MOST_WALD = 0.25


class FlatDirection(NamedTuple):
    """A direction of the coefficients, of unit length where the predictors have mean square one over the rows."""

    relative: float  # information, relative to that of rows of a given curvature
    information: float  # of all rows
    coefficient: float  # along the direction

    @property
    def standard_error(self) -> float:
        """Standard error of the coefficient along the direction; infinite without information."""
        return float(self.information**-0.5) if self.information > 0.0 else float("inf")

    def described(self) -> str:
        """Return the coefficient and its standard error in words."""
        coefficient, error = abs(self.coefficient), self.standard_error
        return f"an estimate of {coefficient:.3g} along a direction has a standard error of {error:.1g}"

    @property
    def is_unbounded(self) -> bool:
        """Whether the maximum lies at infinity along the direction, as far as the data can tell.

        With the coefficients grow the predictors, and the information falls exponentially. The Wald statistic then goes
        to zero, which it does not do at a finite maximum; Hauck, Donner (1977), Wald's test as applied to hypotheses in
        logit analysis. So that a coefficient near zero is not taken for one that has grown, one is added to its square.
        """
        return self.relative < MOST_RELATIVE and self.information * (1.0 + self.coefficient**2) < MOST_WALD


# Where no predictor varies, or by too much to be known: squares of far rows overflow.
NO_DIRECTION = FlatDirection(float("inf"), float("inf"), 0.0)


def flattest_direction(
    functions: LinearPredictors | TiedPredictors,
    coefficients: Coefficients,
    *,
    curvature: float,
    weights: Float[Tensor, "N _"],
    number: int = 0,
) -> FlatDirection:
    """Return the direction of least information among those in which the predictors of one function vary.

    Beyond 60 coefficients the information is an upper limit, found by the Lanczos method. The method begins at the
    coefficients: where the maximum lies at infinity, they have grown along the flat direction. Where the predictors do
    not vary, or the columns' second moments overflow, no direction is flat.

    Args:
        functions: B log likelihoods.
        coefficients: the point [B, Q].
        curvature: of every row in every predictor, with which the information is compared.
        weights: of the rows in each function, of positive sum.
        number: of the function.
    """
    expansion, (total, squares) = functions.expansion(coefficients), functions.moments(weights, number)
    moments, directions = torch.linalg.eigh(squares / total)
    kept = moments > SMALLEST_MOMENT * moments.max()
    if not bool(kept.any()):
        return NO_DIRECTION
    # In these columns the information of rows of unit curvature is the total weight times the identity.
    whitening = directions[:, kept] * moments[kept].rsqrt()
    information = expansion.information()[number] if coefficients.shape[1] <= MOST_DENSE else None

    def product(direction: Tensor) -> Tensor:
        original = (direction.unflatten(0, (functions.n_predictors, -1)) @ whitening.mT).flatten()
        if information is None:
            image = expansion.information_product(original.expand_as(coefficients))[number : number + 1]
        else:
            image = (information @ original).unsqueeze(0)
        return (functions.split(image)[0] @ whitening).flatten()

    grown = (functions.split(coefficients)[number] @ directions[:, kept] * moments[kept].sqrt()).flatten()
    # A tenth of the length in a random direction, so that the start has a share of every eigenvector.
    generator = torch.Generator("cpu").manual_seed(0)
    random = torch.randn(len(grown), generator=generator, dtype=grown.dtype, device="cpu").to(grown.device)
    start = grown + 0.1 * (1.0 + grown.norm()) * random / random.norm()
    least, direction = smallest_eigenpair(product, start, n_products=MOST_PRODUCTS)
    return FlatDirection(float(least) / (total * curvature), float(least), float(direction @ grown))


# Relative to the largest eigenvalue: a smaller coupling to the next vector moves no eigenvalue beyond rounding.
SMALLEST_COUPLING = 1e-14


def smallest_eigenpair(
    product: Callable[[Float[Tensor, " Q"]], Float[Tensor, " Q"]], start: Float[Tensor, " Q"], *, n_products: int
) -> tuple[Float[Tensor, ""], Float[Tensor, " Q"]]:
    """Return an upper limit of the smallest eigenvalue of a symmetric matrix, by the Lanczos method, and its vector.

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
        >>> value, _ = smallest_eigenpair(lambda v: matrix @ v, torch.tensor([1.0, 0.0]).double(), n_products=2)
        >>> round(float(value), 9)
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
    values, vectors = torch.linalg.eigh(projected)
    return values[0], vectors[:, 0] @ basis[: len(projected)]
