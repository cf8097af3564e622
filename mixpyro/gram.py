"""Weighted outer products and squared distances, the sums that regressions and densities are made of."""

import torch
from torch import Tensor

# Rows worked on together: their products stay in a cache.
BLOCK_ROWS = 2048


def weighted_gram(weights: Tensor, u: Tensor) -> Tensor:
    """Σᵢ wᵢₘ uᵢ uᵢ' [M, E, E] of weights [N, M] and rows u [N, E]; see :func:`weighted_products`."""
    return weighted_products(weights, u, u)


def weighted_products(weights: Tensor, v: Tensor, u: Tensor) -> Tensor:
    """Σᵢ wᵢₘ vᵢ uᵢ' [M, F, E] of weights [N, M] and rows v [N, F] and u [N, E], in float64 whatever they are.

    One matrix product a block of rows, so that no temporary is larger than a block times F times the lesser of M and E.
    Objects are the last axis inside: products of whole cache lines.
    """
    shape = weights.shape[1], v.shape[1], u.shape[1]
    few_weights = shape[0] <= shape[2]
    left, right = (shape[0] * shape[1], shape[2]) if few_weights else (shape[0], shape[1] * shape[2])
    total = torch.zeros(left, right, dtype=torch.float64, device=u.device)
    for block in zip(*(part.split(BLOCK_ROWS) for part in (weights, v, u)), strict=True):
        w_columns, v_columns, u_columns = map(_float64_columns, block)
        if few_weights:
            total = total.addmm_(_products(w_columns, v_columns), u_columns.mT)
        else:
            total = total.addmm_(w_columns, _products(v_columns, u_columns).mT)
    return total.reshape(shape)


def column_means(rows: Tensor) -> Tensor:
    """Means of the columns of [N, D], summed in float64, without a copy of the rows in it."""
    sums = [block.sum(0, dtype=torch.float64) for block in rows.split(16 * BLOCK_ROWS)]
    return torch.stack(sums).sum(0) / len(rows)


def _float64_columns(rows: Tensor) -> Tensor:
    return rows.mT.to(torch.float64, memory_format=torch.contiguous_format)


def _products(first: Tensor, second: Tensor) -> Tensor:
    """Every row of the first [A, N] times every row of the second [B, N], [A B, N]."""
    return (first.unsqueeze(1) * second).flatten(0, 1)


def squared_norms(maps: Tensor, columns: Tensor) -> Tensor:
    """|Aₘ vᵢ|² [N, M] of maps A [M, R, C], in the dtype of the v, which are the columns of a tensor [C, N]."""
    flat = maps.flatten(0, 1).to(columns.dtype)
    blocks = columns.split(BLOCK_ROWS, dim=1)
    return torch.cat([(flat @ block).square_().unflatten(0, maps.shape[:2]).sum(1) for block in blocks], dim=1).mT
