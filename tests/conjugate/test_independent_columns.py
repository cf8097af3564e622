"""Normal-Gamma distributions of uncorrelated columns, as values."""

from torch import Tensor

from mixpyro.conjugate.independent_columns import Diagonal, Spherical
from tests.conjugate.test_full_covariance import NormalWishartContract

K, P = 4, 3


class TestDiagonal(NormalWishartContract):
    """The contract, for a precision for each column."""

    kind, scale = Diagonal, (0.5, 0.8, 0.4)
    n_parameters = K * (P + P)

    def in_form(self, matrices: Tensor) -> Tensor:
        return matrices.diagonal(dim1=-2, dim2=-1)


class TestSpherical(NormalWishartContract):
    """The contract, for one precision for all columns."""

    kind, scale = Spherical, 0.6
    n_parameters = K * (P + 1)

    def in_form(self, matrices: Tensor) -> Tensor:
        return matrices.diagonal(dim1=-2, dim2=-1).mean(-1)
