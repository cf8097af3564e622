"""Coefficients whose columns have unknown precisions, with these integrated out."""

import math

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from mixpyro.numerics.cholesky import cholesky


class RelevanceCoefficients(TorchDistribution):
    """c [M, 1 + D]: the first column Normal(0, (λ₀ B)⁻¹), the others Student-t of 2a degrees of freedom.

    They are Normal(0, (λ B)⁻¹) with λ ~ Gamma(a, b) for each column.

    Args:
        between: B [M, M], positive definite.
        intercept: λ₀.
        shape: a.
        rate: b.
        n_columns: D.
    """

    arg_constraints = {}  # noqa: RUF012 (as in torch)

    def __init__(self, between: Tensor, intercept: Tensor, shape: Tensor, rate: Tensor, n_columns: int) -> None:
        self.between, self.intercept, self.shape_, self.rate = between, intercept, shape, rate
        super().__init__(Size(), Size((len(between), 1 + n_columns)), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """All real numbers."""
        return constraints.independent(constraints.real, 2)

    def expand(
        self, batch_shape: Size | list[int] | tuple[int, ...], _instance: TorchDistribution | None = None
    ) -> "RelevanceCoefficients":
        """Return the same distribution of another batch shape.

        Args:
            batch_shape: the new shape.
            _instance: not used.
        """
        new = RelevanceCoefficients(self.between, self.intercept, self.shape_, self.rate, int(self.event_shape[-1]) - 1)
        new._batch_shape = Size(batch_shape)
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute the log density.

        Args:
            value: [..., M, 1 + D].
        """
        size = len(self.between)
        half = 0.5 * size
        squares = 0.5 * (value * (self.between @ value)).sum(-2)
        of_column = (
            torch.lgamma(self.shape_ + half)
            - torch.lgamma(self.shape_)
            + self.shape_ * self.rate.log()
            - (self.shape_ + half) * (self.rate + squares[..., 1:]).log()
        ).sum(-1)
        of_intercept = half * self.intercept.log() - self.intercept * squares[..., 0]
        constant = 0.5 * torch.logdet(self.between) - half * math.log(2.0 * math.pi)
        return of_intercept + of_column + self.event_shape[-1] * constant

    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = Size()) -> Tensor:  # noqa: B008 (as in torch)
        """Draw coefficients, by way of their precisions.

        Args:
            sample_shape: shape of independent draws.
        """
        with torch.no_grad():
            shape = Size(sample_shape) + self.batch_shape
            columns = torch.distributions.Gamma(self.shape_, self.rate).sample(
                Size((*shape, int(self.event_shape[-1]) - 1))
            )
            precisions = torch.cat([self.intercept.expand(*shape, 1), columns.clamp_min(1e-30)], dim=-1)
            normal = torch.randn(*shape, *self.event_shape, dtype=self.between.dtype, device=self.between.device)
            root = cholesky(self.between)
            unit = torch.linalg.solve_triangular(root.mT.expand(*shape, *root.shape), normal, upper=True)
            return unit / precisions.sqrt().unsqueeze(-2)
