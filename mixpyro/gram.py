"""Sums of weighted outer products, the sums over objects that regressions are made of."""

import torch
from torch import Tensor

# Rows worked on together: their outer products stay in a cache.
BLOCK_ROWS = 2048


def weighted_gram(weights: Tensor, u: Tensor) -> Tensor:
    """Σᵢ wᵢₘ uᵢ uᵢ' [M, E, E] of weights [N, M] and rows u [N, E], as one matrix product a block of rows.

    No temporary is larger than a block times E², however many rows there are.
    """
    n_columns = u.shape[1]
    total = u.new_zeros(weights.shape[1], n_columns * n_columns)
    for w_block, u_block in zip(weights.split(BLOCK_ROWS), u.split(BLOCK_ROWS), strict=True):
        outer = u_block.unsqueeze(2) * u_block.unsqueeze(1)
        total = torch.addmm(total, w_block.mT, outer.flatten(1))
    return total.unflatten(1, (n_columns, n_columns))
