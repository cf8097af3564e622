"""Normal distributions of the coefficients of a gate, as values in natural parameters."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.numerics.cholesky import cholesky, inverted, log_determinants


class NaturalSums(NamedTuple):
    """Sums over the rows of what they add to a prior's natural parameters, float64.

    They are those of the quadratic that touches the rows' share of the bound at a posterior: the prior updated by them
    is one step of Newton's method from there, and a blend of two of them is a natural-gradient step.
    """

    linear: Tensor  # added to Λm [..., B, Q]
    precision: Tensor  # added to Λ [..., B, Q, Q]


class NormalCoefficients(NamedTuple):
    """B independent blocks of Q coefficients, each c ~ Normal(m, Λ⁻¹), float64, with any leading axes."""

    mean: Tensor  # m [..., B, Q]
    precision: Tensor  # Λ [..., B, Q, Q]

    @property
    def covariance(self) -> Float[Tensor, "*R B Q Q"]:
        """Λ⁻¹; all NaN for a precision that is not positive definite."""
        root = inverted(cholesky(self.precision))
        return root.mT @ root

    @property
    def linear(self) -> Float[Tensor, "*R B Q"]:
        """Λm."""
        return (self.precision @ self.mean.unsqueeze(-1)).squeeze(-1)

    @property
    def n_parameters(self) -> int:
        """Number of coefficients, BQ."""
        return self.mean.shape[-2] * self.mean.shape[-1]

    def updated(self, seen: NaturalSums) -> "NormalCoefficients":
        """Return the posterior of this prior: sums of the natural parameters; Khan, Lin (2017), eq. 10.

        Args:
            seen: with any leading axes.
        """
        precision = self.precision + seen.precision
        linear = self.linear + seen.linear
        return NormalCoefficients(
            torch.cholesky_solve(linear.unsqueeze(-1), cholesky(precision)).squeeze(-1), precision
        )

    def statistics_beyond(self, prior: "NormalCoefficients") -> NaturalSums:
        """Return the sums that lead from a prior to this posterior.

        Args:
            prior: with or without the leading axes.
        """
        return NaturalSums(self.linear - prior.linear, self.precision - prior.precision)

    def kl(self, prior: "NormalCoefficients") -> Float[Tensor, "*R"]:
        """Return KL(self ‖ prior) in nats, summed over the blocks.

        Args:
            prior: with or without the leading axes.
        """
        own, others = cholesky(self.precision), cholesky(prior.precision)
        others = others.expand(own.shape)
        trace = torch.linalg.solve_triangular(own, others, upper=False).square().sum((-2, -1))
        distance = ((self.mean - prior.mean).unsqueeze(-2) @ others).square().sum((-2, -1))
        log_ratio = log_determinants(own) - log_determinants(others)
        divergence = 0.5 * (trace + distance - self.mean.shape[-1] + log_ratio)
        # To the last digit zero where nothing has been learnt.
        same = (self.precision == prior.precision).all(-1).all(-1) & (self.mean == prior.mean).all(-1)
        return torch.where(same, 0.0, divergence).sum(-1)
