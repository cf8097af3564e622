"""Missing outputs of a Gaussian given those that were observed, under the posterior's expected precisions.

With y = [y_O, y_M], E log p(y | k) is quadratic in y: c − ½ (y − μ)'A (y − μ), with A the expected precision. A missing
y_M has a q of its own for each component, Normal(μ_M − A_MM⁻¹ A_MO (y_O − μ_O), A_MM⁻¹), and what it adds to the bound
is in closed form: log ∫ exp E log p(y | k) dy_M = c + ½ |M| log 2π − ½ log |A_MM| − ½ (y_O − μ_O)'A_O.M (y_O − μ_O),
with A_O.M the Schur complement. In the update y_M has that mean and covariance. This is variational Bayes for q(θ)
q(z) q(y_M | z), as Little, Rubin (2019), Statistical Analysis with Missing Data, section 11.2.1, is EM at its maximum.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.numerics.cholesky import cholesky
from mixpyro.numerics.weighted_sums import squared_norms, weighted_gram


class Completion(NamedTuple):
    """What the columns [u, y] of rows say of y, of which some outputs are missing and zero in the columns."""

    maps: Tensor  # T [..., K, E + P, E + P], with T [u, y] = [u, E y]
    covariance: Tensor  # of y [..., K, P, P]; zero for what was observed
    residuals: Tensor  # maps to a root of the squared distance [..., K, P, E + P]
    constant: Tensor  # ½ |M| log 2π − ½ log |A_MM| [..., K]

    @classmethod
    def of(cls, root: Tensor, mean: Tensor, missing: Sequence[int]) -> "Completion":
        """Return what a component expects of missing outputs.

        Args:
            root: R with A = R'R [..., K, P, P], or [..., 1, P, P] where components share it.
            mean: μ as a map of u [..., K, P, E].
            missing: numbers of the outputs that were not observed, at least one.
        """
        n_outputs, n_columns = mean.shape[-2:]
        absent, seen = list(missing), [output for output in range(n_outputs) if output not in missing]
        root = root.expand(*mean.shape[:-2], n_outputs, n_outputs)
        precision = root.mT @ root
        factor = cholesky(precision[..., absent, :][..., absent])
        weights = -torch.cholesky_solve(precision[..., absent, :][..., seen], factor)
        maps = torch.eye(n_columns + n_outputs, dtype=root.dtype, device=root.device).repeat(*root.shape[:-2], 1, 1)
        rows = [n_columns + output for output in absent]
        own = torch.zeros_like(maps[..., rows, :])
        own[..., :n_columns] = mean[..., absent, :] - weights @ mean[..., seen, :]
        own[..., [n_columns + output for output in seen]] = weights
        maps[..., rows, :] = own
        covariance = torch.zeros_like(precision)
        inverse = torch.cholesky_inverse(factor)
        for place, output in enumerate(absent):
            covariance[..., output, absent] = inverse[..., place, :]
        of_residual = maps[..., n_columns:, :].clone()
        of_residual[..., :n_columns] -= mean
        log_determinant = 2.0 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = 0.5 * (len(absent) * math.log(2.0 * math.pi) - log_determinant)
        return cls(maps, covariance, root @ of_residual, constant)

    def squared_distances(self, columns: Float[Tensor, "F N"]) -> Float[Tensor, "*R K N"]:
        """Return (y_O − μ_O)'A_O.M (y_O − μ_O) [..., K, N], in the columns' dtype.

        Args:
            columns: [u, y] as rows [E + P, N].
        """
        return squared_norms(self.residuals.flatten(0, -3), columns).mT.unflatten(0, self.constant.shape)

    def gram(
        self, columns: Float[Tensor, "F N"], responsibilities: Float[Tensor, "*R K N"]
    ) -> Float[Tensor, "*R K F F"]:
        """Return Σ r E[u, y][u, y]', float64.

        Args:
            columns: [u, y] as rows [E + P, N].
            responsibilities: [..., K, N].
        """
        leading = responsibilities.shape[:-1]
        sums = weighted_gram(responsibilities.flatten(0, -2).mT, columns.mT).unflatten(0, leading)
        completed = self.maps @ sums @ self.maps.mT
        n_columns = completed.shape[-1] - self.covariance.shape[-1]
        counts = responsibilities.sum(-1, dtype=torch.float64)
        completed[..., n_columns:, n_columns:] += counts[..., None, None] * self.covariance
        return completed
