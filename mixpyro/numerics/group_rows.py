"""The density of a group of rows with random effects summed out, one row after another.

Sums of products over the rows of a group lose the digits of a row that is far from the others, or far beyond the spread
of the effects: what is left of two large numbers is rounding. Orthogonal rotations of the rows keep them.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.arguments import in_transform
from mixpyro.numerics.group_densities import GroupColumns, has_lost_digits, marginal_log_densities
from mixpyro.numerics.segments import Segments


def predictive_log_densities(
    rows: Float[Tensor, "F N"],
    columns: GroupColumns,
    segments: Segments,
    coefficients: Float[Tensor, "K E"],
    precision: Float[Tensor, " K"],
    root: Float[Tensor, "K E M"],
) -> Float[Tensor, "K G"]:
    """Return :func:`densities_by_rows`, from sums over the rows of each group where they have the digits.

    Args:
        rows: columns of the design and y [E + 1, N], float64, the rows of a group next to each other.
        columns: their sums over the rows of each group.
        segments: the groups.
        coefficients: β, the prior mean.
        precision: τ.
        root: R, of full row rank.
    """
    found = marginal_log_densities(columns, coefficients, precision, root)
    if in_transform():  # whose values cannot be read
        return found
    far = has_lost_digits(columns, coefficients, precision, root).nonzero().squeeze(-1)
    if not len(far):
        return found
    chosen, own = segments.select(far)
    return found.index_copy(-1, far, densities_by_rows(rows[:, chosen], own.sizes, coefficients, precision, root))


def densities_by_rows(
    rows: Float[Tensor, "F N"],
    sizes: Tensor,
    coefficients: Float[Tensor, "K E"],
    precision: Float[Tensor, " K"],
    root: Float[Tensor, "K E M"],
) -> Float[Tensor, "K G"]:
    """Return log Normal(y; X β, I/τ + X R R' X') of every group in nats, float64.

    It is the evidence of a regression whose coefficients are Normal(β, R R'): the triangle of the prior's equations is
    rotated with one row of each group after another, as in recursive least squares. The work grows with the rows of the
    largest group.

    Args:
        rows: columns of the design and y [E + 1, N], float64, the rows of a group next to each other.
        sizes: number of rows of each group [G].
        coefficients: β, the prior mean.
        precision: τ.
        root: R, of full row rank.
    """
    order = sizes.argsort(descending=True, stable=True)
    first = (sizes.cumsum(0) - sizes)[order]
    prior = _triangle(root)
    right = prior @ coefficients.unsqueeze(-1)
    equations = torch.cat([prior, right], dim=-1).unsqueeze(1).repeat(1, len(sizes), 1, 1)  # [K, G, E, E + 1]
    squares = equations.new_zeros(len(precision), len(sizes))
    scale = precision.sqrt()[:, None, None]
    # Of the groups that have so many rows, which come first.
    for number in range(int(sizes.max())):
        n_left = int((sizes > number).sum())
        left = scale * rows[:, first[:n_left] + number].mT
        squares[:, :n_left] += _rotated_in(equations[:, :n_left], left).square()
    diagonals = equations.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)
    of_prior = prior.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)
    constant = 0.5 * sizes[order] * (precision.log() - math.log(2.0 * math.pi)).unsqueeze(-1)
    found = constant + of_prior.unsqueeze(-1) - diagonals - 0.5 * squares
    return torch.empty_like(found).index_copy(1, order, found)


def _triangle(root: Float[Tensor, "K E M"]) -> Float[Tensor, "K E E"]:
    """Return the upper triangle T with T'T = (R R')⁻¹."""
    factor = torch.linalg.qr(root.mT).R
    one = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    inverse = torch.linalg.solve_triangular(factor, one, upper=True)
    return torch.linalg.qr(inverse.mT).R


def _rotated_in(equations: Tensor, left: Tensor) -> Float[Tensor, "K G"]:
    """Add an equation to each triangle [K, G, E, E + 1] in place; return what is left of its right side."""
    for i in range(equations.shape[2]):
        own = equations[:, :, i].clone()
        length = torch.hypot(own[..., i], left[..., i]).unsqueeze(-1)
        cosine, sine = own[..., i : i + 1] / length, left[..., i : i + 1] / length
        equations[:, :, i] = cosine * own + sine * left
        left = cosine * left - sine * own
    return left[..., -1]
