"""The regression coefficients of a Gaussian's columns on the columns before them, under a Wishart prior."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.distributions.util import broadcast_shape
from torch import Size, Tensor
from torch.distributions import constraints

from mixpyro import arguments
from mixpyro.distributions.checked_values import checked_as


def packed(matrix: Tensor) -> Tensor:
    """List the entries of matrices below the diagonal.

    Args:
        matrix: [..., P, P].

    Returns:
        The entries, row by row [..., P (P − 1) / 2].
    """
    rows, columns = torch.tril_indices(matrix.shape[-1], matrix.shape[-1], -1, device=matrix.device)
    return matrix[..., rows, columns]


def unpacked(values: Tensor, size: int) -> Tensor:
    """Make strictly lower triangular matrices of their entries; inverse of :func:`packed`.

    Args:
        values: entries below the diagonal, row by row [..., P (P − 1) / 2].
        size: P.

    Returns:
        Matrices [..., P, P], zero on and above the diagonal.
    """
    rows, columns = torch.tril_indices(size, size, -1, device=values.device)
    matrix = values.new_zeros(*values.shape[:-1], size, size)
    matrix[..., rows, columns] = values
    return matrix


class RegressionCoefficients(TorchDistribution):
    """Coefficients Φ of each column on the columns before it, if the precision matrix is Wishart(Ψ⁻¹, ν).

    The precisions d of the columns, given those before them, are known. Row p of Φ below the diagonal is then
    Normal(B⁻¹ b, (dₚ B)⁻¹), where B is the block of Ψ of the columns before p and b their part of column p of Ψ. With
    Ψ = L L' all rows are one product, Φ = I − diag(L) L⁻¹ + D^(−½) E L⁻¹, with E standard normal below the diagonal.
    Values are packed, see :func:`packed`.

    Args:
        factor: L, lower triangular [..., P, P].
        precision: d [..., P], above 0, the inverse of squared units of y.
        validate_args: whether to check the arguments and values; by default as Pyro's own validation is set.

    References:
        Bartlett (1933), On the theory of statistical regression; Muirhead (1982), Aspects of Multivariate Statistical
        Theory, theorem 3.2.14.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "factor": constraints.lower_cholesky,
        "precision": constraints.independent(constraints.positive, 1),
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, factor: Tensor, precision: Tensor, *, validate_args: bool | None = None) -> None:
        batch = Size(broadcast_shape(factor.shape[:-2], precision.shape[:-1]))
        self.factor = factor.expand(*batch, *factor.shape[-2:])
        self.precision = precision.expand(*batch, *precision.shape[-1:])
        size = factor.shape[-1]
        super().__init__(batch, Size([size * (size - 1) // 2]), validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """I − diag(L) L⁻¹, packed [..., P (P − 1) / 2]."""
        identity = torch.eye(self.factor.shape[-1], dtype=self.factor.dtype, device=self.factor.device)
        inverse = torch.linalg.solve_triangular(self.factor, identity, upper=False)
        return packed(-self.factor.diagonal(dim1=-2, dim2=-1).unsqueeze(-1) * inverse)

    def expand(
        self, batch_shape: Sequence[int], _instance: TorchDistribution | None = None
    ) -> "RegressionCoefficients":
        """Expand the batch shape.

        Args:
            batch_shape: the new shape.
            _instance: not used.

        Returns:
            A new distribution that shares the parameters of this one.
        """
        factor = self.factor.expand(*batch_shape, *self.factor.shape[-2:])
        precision = self.precision.expand(*batch_shape, *self.precision.shape[-1:])
        return checked_as(self, RegressionCoefficients(factor, precision, validate_args=False))

    @arguments.outside_contexts
    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw values that gradients go through.

        Args:
            sample_shape: shape of independent draws.

        Returns:
            Packed coefficients [*sample_shape, ..., P (P − 1) / 2].
        """
        shape = self._extended_shape(Size(sample_shape))
        noise = unpacked(torch.randn(shape, dtype=self.factor.dtype, device=self.factor.device), self.factor.shape[-1])
        deviation = torch.linalg.solve_triangular(self.factor, noise, upper=False, left=False)
        return self.mean + packed(self.precision.rsqrt().unsqueeze(-1) * deviation)

    @arguments.outside_contexts
    def log_prob(self, value: Tensor) -> Tensor:
        """Compute the log density.

        Args:
            value: packed coefficients [..., P (P − 1) / 2].

        Returns:
            Log densities [...], in nats.
        """
        if self._validate_args:
            self._validate_sample(value)
        size = self.factor.shape[-1]
        noise = self.precision.sqrt().unsqueeze(-1) * (unpacked(value - self.mean, size) @ self.factor)
        before = torch.arange(size, dtype=self.factor.dtype, device=self.factor.device)
        log_diagonal = self.factor.diagonal(dim1=-2, dim2=-1).log()
        log_jacobian = 0.5 * before * self.precision.log() + before.flip(0) * log_diagonal
        standard = torch.distributions.Normal(value.new_zeros(()), value.new_ones(()))
        return standard.log_prob(packed(noise)).sum(-1) + log_jacobian.sum(-1)
