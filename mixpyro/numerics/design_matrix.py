"""Design matrices of regressions, and changes of the coordinates that their columns are measured in.

Far from zero or in unlike units, columns are all but collinear with the intercept. Regressions are therefore computed
in shifted or scaled columns, and their coefficients transformed back.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro.arguments import has_derivatives
from mixpyro.numerics.location_scale import location_scale
from mixpyro.shapes import Design, Inputs, Outputs


def with_intercept(x: Inputs) -> Design:
    """Put a column of ones before the inputs.

    Args:
        x: inputs [N, D].

    Returns:
        u = [1, x] [N, 1 + D].
    """
    return torch.cat([x.new_ones(len(x), 1), x], dim=1)


def standardised(x: Inputs) -> tuple[Design, Tensor]:
    """Standardise inputs, and compute the transform of the coefficients.

    A year, a time stamp or a column in millionths makes [1, x] all but singular. The same model in standardised columns
    is well conditioned. A few huge values do not move where the others are counted from.

    Args:
        x: inputs [N, D]. A constant column is shifted to 0 and not scaled.

    Returns:
        The design [1, (x − location) / scale] [N, 1 + D], and T [1 + D, 1 + D] with design = [1, x] T; both float64.
        Coefficients of [1, x] are T times the coefficients of the standardised design.
    """
    location, scale = location_scale(x)
    x = x.double()
    transform = torch.eye(x.shape[1] + 1, dtype=x.dtype, device=x.device)
    transform[0, 1:] = -location / scale
    transform.diagonal()[1:] = 1.0 / scale
    return with_intercept((x - location) / scale), transform


class Origin(NamedTuple):
    """Point from which the inputs and outputs of regressions are measured.

    Coefficients w̃ for y − y₀ on [1, x − x₀] become w = A w̃ + offset for y on [1, x], with A the ``shift``.
    """

    x: Tensor  # x₀ [D]
    y: Tensor  # y₀ [P]
    intercept: bool  # without an intercept, which alone a shift changes, x₀ and y₀ are zero

    @property
    def shift(self) -> Tensor:
        """A [E, E], float64: identity, but for the intercept at x = 0 instead of x₀."""
        return self._shear(-self.x)

    @property
    def back(self) -> Tensor:
        """A⁻¹ [E, E], float64."""
        return self._shear(self.x)

    @property
    def offset(self) -> Tensor:
        """y₀ for the intercept of each output and 0 for its slopes [P, E], float64."""
        offset = torch.zeros(len(self.y), self._n_columns, dtype=torch.float64, device=self.y.device)
        offset[:, 0] = self.y
        return offset

    @property
    def _n_columns(self) -> int:
        """E, the number of columns of the design."""
        return len(self.x) + int(self.intercept)

    def _shear(self, slopes: Tensor) -> Tensor:
        """Make the matrix [E, E] that adds multiples of the slopes to the intercept, float64."""
        matrix = torch.eye(self._n_columns, dtype=torch.float64, device=self.x.device)
        if self.intercept:
            matrix[0, 1:] = slopes
        return matrix


class StackedOrigin(NamedTuple):
    """What :class:`Origin` says, of the coefficients of several regressions side by side."""

    shift: Tensor  # [Q, Q], float64
    offset: Tensor  # [P, Q], float64
    intercept: bool


def columns_from(values: Outputs, origin: Tensor) -> Tensor:
    """Subtract an origin from rows, and transpose them.

    Args:
        values: rows [N, P].
        origin: [P], float64 or the dtype of ``values``. What that dtype cannot hold of the origin is subtracted in a
            second step, so that the result has no error but its own rounding.

    Returns:
        Columns values − origin [P, N], contiguous, in the dtype of ``values``.
    """
    if not has_derivatives(values):
        # Subtracting into a buffer takes a third of the time of a transposed copy, but has no gradient.
        columns = values.new_empty(values.shape[1], len(values))
        _subtract(values, origin, columns)
        return columns
    high = origin.to(values.dtype)
    columns = torch.sub(values.mT, high.unsqueeze(-1)).contiguous()
    return columns if high.dtype == origin.dtype else columns.sub_((origin - high).to(values.dtype).unsqueeze(-1))


def joined_columns(*parts: tuple[Tensor, Tensor], ones: bool) -> Tensor:
    """Subtract origins from several tensors of the same rows, and write their columns below each other.

    Args:
        *parts: rows [N, P] and their origin [P], as for :func:`columns_from`; one part at least.
        ones: whether ones come first, for an intercept.

    Returns:
        Columns [ones + Σ P, N], in the dtype of the first part where all have the same.
    """
    first = parts[0][0]
    if any(has_derivatives(values) or values.dtype != first.dtype for values, _ in parts):
        rest = [columns_from(*part) for part in parts]
        return torch.cat([first.new_ones(1, len(first)), *rest] if ones else rest)
    # Into the result at once: to join columns that have been made takes as long as to make them.
    columns = first.new_empty(int(ones) + sum(values.shape[1] for values, _ in parts), len(first))
    if ones:
        columns[0] = 1.0
    start = int(ones)
    for values, origin in parts:
        _subtract(values, origin, columns[start : start + values.shape[1]])
        start += values.shape[1]
    return columns


def _subtract(values: Outputs, origin: Tensor, columns: Tensor) -> None:
    """Write rows less an origin into columns [P, N], as :func:`columns_from` returns them."""
    high = origin.to(values.dtype)
    torch.sub(values.mT, high.unsqueeze(-1), out=columns)
    if high.dtype != origin.dtype:
        columns.sub_((origin - high).to(values.dtype).unsqueeze(-1))
