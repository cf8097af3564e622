"""Sums over the rows of each group that regressions read, and the density of a group with random effects summed out."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mixpyro.numerics.group_products import factors, log_determinant, matrices_of_groups, products_of_groups, solved
from mixpyro.numerics.segments import Segments

# Nats a row that rounding may add or take.
MOST_LOST = 1e-8


class GroupColumns(NamedTuple):
    """Sums over the rows of each group, float64, of d = [u, y] with a design u of E columns and Z of q columns."""

    rows: Tensor  # n [1, G]
    products: Tensor  # Σ d d' [(E + 1)(E + 2) / 2, G], each pair once
    crossed: Tensor  # Σ z d' [q, E + 1, G]
    effects: Tensor  # Σ z z' [q, q, G]


def columns_of_groups(rows: Float[Tensor, "F N"], selection: Float[Tensor, "E q"], segments: Segments) -> GroupColumns:
    """Return sums over the rows of each group.

    Args:
        rows: columns of u, the first of them ones, and y [E + 1, N], the rows of a group next to each other.
        selection: matrix from the columns of u to those of Z.
        segments: the groups.
    """
    products = products_of_groups(rows, segments)
    crossed = torch.einsum("eq,ecg->qcg", selection, matrices_of_groups(products, len(rows))[:-1])
    effects = torch.einsum("eq,peg->pqg", selection, crossed[:, :-1])
    return GroupColumns(products[:1], products, crossed.contiguous(), effects.contiguous())


def marginal_log_densities(
    columns: GroupColumns, coefficients: Tensor, precision: Tensor, root: Tensor
) -> Float[Tensor, "*R K G"]:
    """Return log Normal(y; X β, I/τ + X R R' X') of every group in nats [..., K, G], by Woodbury's identity.

    Args:
        columns: sums over the rows of each group.
        coefficients: β [..., K, E].
        precision: τ [..., K].
        root: R [..., K, E, M].
    """
    size, n_columns = coefficients.shape[-1] + 1, root.shape[-1]
    squares = matrices_of_groups(columns.products, size)
    noise = precision.unsqueeze(-1)
    extended = torch.cat([-coefficients, torch.ones_like(coefficients[..., :1])], dim=-1)
    residual = torch.einsum("...c,cdg->...dg", extended, squares)
    total = torch.einsum("...d,...dg->...g", extended, residual)
    crossed = torch.einsum("...em,...eg->...mg", root, residual[..., :-1, :])
    of_root = torch.einsum("...em,efg->...mfg", root, squares[:-1, :-1])
    gram = torch.einsum("...mfg,...fn->...mng", of_root, root)
    one = torch.eye(n_columns, dtype=gram.dtype, device=gram.device)
    rows = range(n_columns)
    factor = factors([[noise * gram[..., i, j, :] + one[i, j] for j in range(i + 1)] for i in rows])
    explained = sum(row.square().sum(-2) for row in solved(factor, [crossed[..., i : i + 1, :] for i in rows]))
    constant = (precision.log() - math.log(2.0 * math.pi)).unsqueeze(-1) * columns.rows
    return 0.5 * (constant - log_determinant(factor) - noise * total + noise.square() * explained)


def has_lost_digits(
    columns: GroupColumns, coefficients: Float[Tensor, "K E"], precision: Float[Tensor, " K"], root: Tensor
) -> Bool[Tensor, " G"]:
    """Return for which groups :func:`marginal_log_densities` may be off by more than 10⁻⁸ nats a row.

    What is explained of the squares is their sum nearly, and is found by a matrix whose condition number is at most
    the variance of the rows over that of the noise.

    Args:
        columns: sums over the rows of each group.
        coefficients: β.
        precision: τ.
        root: R [K, E, M].
    """
    squares = matrices_of_groups(columns.products, coefficients.shape[-1] + 1)
    extended = torch.cat([-coefficients, torch.ones_like(coefficients[..., :1])], dim=-1)
    total = torch.einsum("kc,kd,cdg->kg", extended.abs(), extended.abs(), squares.abs())
    spread = torch.einsum("kem,kfm,efg->kg", root.abs(), root.abs(), squares[:-1, :-1].abs())
    noise = precision.unsqueeze(-1)
    error = torch.finfo(torch.float64).eps * (1.0 + noise * total) * (1.0 + noise * spread)
    # Squares beyond the range of float64 have no digits at all.
    return ~(error <= MOST_LOST * (1.0 + columns.rows)).all(0)
