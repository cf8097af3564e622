"""Missing information from moments of the rows, which all components have in common.

The features of linear response are polynomials of degree two in the columns of a row. So are those of all components in
one set of coordinates c = (1, z), with tₖ = Dₖ s for the products s of pairs of c, and

    M = Σᵢ wᵢ Tᵢ'(diag rᵢ − rᵢ rᵢ')Tᵢ = Σ_{k<l} (Dₖ − Dₗ) [Σᵢ wᵢ rᵢₖ rᵢₗ sᵢ sᵢ'] (Dₖ − Dₗ)'

asks for sums of products of four of the c: a third of the products of features, and fewer the more columns there are. A
sum of such products has no cancellation, but its difference from one component's coordinates to another's may have: a
bound on that error comes with it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro.conjugate.responses.base import Features, Response
from mixpyro.intervals.responses.information import NEGLIGIBLE, unsure_rows
from mixpyro.numerics.blocks import row_slices
from mixpyro.numerics.largest_eigenvalue import largest_eigenvalue
from mixpyro.numerics.pairs import pair_indices
from mixpyro.numerics.quartics import Quartics

# Rows from which coordinates are found. Any coordinates give the same M; good ones lose fewer digits.
N_SAMPLED = 4096
# Correlation that is left of columns that are collinear; with less their coordinates would be all rounding error.
JITTER = 1e-10
# Measured error of M in units of eps and of the bound's matrix.
RELATIVE_ERROR = 1.0


class Frame(NamedTuple):
    """Coordinates z = L⁻¹ (columns − mean) in which a sample of rows is uncorrelated and of variance one."""

    mean: Tensor  # [F, 1]
    factor: Tensor  # L [F, F], lower triangular
    has_constant: bool  # the first column is one, and no coordinate

    @classmethod
    def of(cls, columns: Tensor, weights: Tensor, *, has_constant: bool) -> "Frame":
        """Return the coordinates of a sample.

        Args:
            columns: [F, N].
            weights: of the rows [N]; not all zero.
            has_constant: whether the first column is one.
        """
        varying = columns[int(has_constant) :]
        share = weights / weights.sum()
        mean = (varying * share).sum(1, keepdim=True)
        centred = varying - mean
        covariance = (centred * share) @ centred.mT
        scale = covariance.diagonal().sqrt()
        scale = torch.where(scale > 0.0, scale, 1.0)
        correlation = covariance / scale / scale.unsqueeze(-1)
        correlation.diagonal().fill_(1.0 + JITTER)
        return cls(mean, scale.unsqueeze(-1) * torch.linalg.cholesky(correlation), has_constant)

    def coordinates(self, columns: Tensor) -> Tensor:
        """Return (1, z) of rows.

        Args:
            columns: [F, N].
        """
        centred = columns[int(self.has_constant) :] - self.mean
        z = torch.linalg.inv(self.factor) @ centred
        return torch.cat([torch.ones_like(columns[:1]), z])

    def columns(self, z: Tensor) -> Tensor:
        """Return the columns of coordinates z.

        Args:
            z: [F, N].
        """
        found = self.mean + self.factor @ z
        return torch.cat([torch.ones_like(found[:1]), found]) if self.has_constant else found

    def polynomial(self, response: Response) -> Features:
        """Return the coefficients of features on the products of pairs of (1, z), in place of rows.

        A polynomial of degree two is known from its values at 0, at ± each unit vector, and at sums of two of them.

        Args:
            response: of a part.
        """
        n = len(self.mean)
        unit = torch.eye(n, dtype=self.mean.dtype, device=self.mean.device)
        first, second = pair_indices(n, self.mean.device)
        z = torch.cat([unit.new_zeros(n, 1), unit, -unit, unit[:, first] + unit[:, second]], dim=1)
        found = response.features(self.columns(z))
        return Features(*(_interpolated(values, first, second) for values in found))


def _interpolated(values: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return coefficients [..., S] from values at 0, unit vectors, their negatives, and sums of pairs [..., 2 S]."""
    n = int(first[-1]) + 1
    at_zero, up, down, sums = values.split([1, n, n, len(first)], dim=-1)
    linear = 0.5 * (up - down)
    squares = 0.5 * (up + down) - at_zero
    products = sums - up[..., first] - up[..., second] + at_zero
    products = torch.where(first == second, squares[..., first], products)
    return torch.cat([at_zero, linear, products], dim=-1)


class SharedMoments:
    """Missing information at one point of the posteriors.

    Args:
        frame: coordinates of the columns.
        responses: of the gate and the experts.
    """

    def __init__(self, frame: Frame, responses: list[Response]) -> None:
        self.frame = frame
        parts = [frame.polynomial(response) for response in responses]
        self.coefficients = Features(torch.cat([part.common for part in parts], 1), parts[-1].own)
        n_components = len(self.coefficients.own)
        self.pairs = torch.triu_indices(n_components, n_components, 1).mT.tolist()
        self.quartics = Quartics(1 + len(frame.mean), len(self.pairs), frame.mean)

    def add(self, columns: Tensor, r: Tensor, weights: Tensor) -> None:
        """Add rows.

        Args:
            columns: what the experts read [F, N].
            r: responsibilities [K, N].
            weights: of the rows [N].
        """
        unsure = unsure_rows(r, weights)
        if unsure is not None:
            columns, r, weights = columns[:, unsure], r[:, unsure], weights[unsure]
        for rows in row_slices(len(weights), width=len(self.pairs), device=weights.device):
            part = r[:, rows]
            weighted = part * weights[rows]
            both = torch.cat([part[:0], *(weighted[k] * part[k + 1 :] for k in range(len(r) - 1))])
            # Also because denormal numbers would take ten times as long.
            both = torch.threshold_(both, NEGLIGIBLE, 0.0)
            self.quartics.add(self.frame.coordinates(columns[:, rows]), both)

    def missing(self) -> tuple[Tensor, float]:
        """Return M [P, P], and about the norm of its error."""
        n_components, n_common = self.coefficients.common.shape[:2]
        n_own = self.coefficients.own.shape[1]
        size = n_common + n_components * n_own
        total = self.frame.mean.new_zeros(size, size)
        bounds = total.new_zeros(size, len(self.pairs))
        for number, (k, j) in enumerate(self.pairs):
            gram = self.quartics.gram(number)
            difference = self._difference(k, j)
            own = [torch.arange(n_common + i * n_own, n_common + (i + 1) * n_own, device=total.device) for i in (k, j)]
            rows = torch.cat([torch.arange(n_common, device=total.device), *own])
            total[rows.unsqueeze(-1), rows] += difference @ gram @ difference.mT
            bounds[rows, number] = difference.abs() @ gram.diagonal().clamp_min(0.0).sqrt()
        # The bound of pair p is a multiple of bₚ bₚ', and that of their sum of B B'. Products of huge columns overflow.
        squares = bounds.mT @ bounds
        norm = largest_eigenvalue(squares) if self.pairs and bool(squares.isfinite().all()) else float(squares.sum())
        return (total + total.mT).mul_(0.5), RELATIVE_ERROR * torch.finfo(total.dtype).eps * norm

    def _difference(self, k: int, j: int) -> Tensor:
        """Return the coefficients of one component's features less another's [C + 2 O, S]."""
        common, own = self.coefficients
        return torch.cat([common[k] - common[j], own[k], -own[j]])
