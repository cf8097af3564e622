"""Missing information of a mixture: M = Σᵢ wᵢ Tᵢ'(diag rᵢ − rᵢ rᵢ')Tᵢ, from the features of blocks of rows.

Louis (1982), eq. 3.1; for posteriors, Giordano, Broderick, Jordan (2018), section 5.
"""

import torch
from torch import Tensor

from mixpyro.conjugate.responses.base import Features

# Weight times 1 − max r, or r r' of two components, below which a row is left out: less than a rounding error.
NEGLIGIBLE = 1e-17
# Share of the rows of a block below which those that count are copied, before they are multiplied.
FEW = 0.5


def add_missing(total: Tensor, features: Features, r: Tensor, weights: Tensor) -> None:
    """Add the missing information of a block of rows.

    Args:
        total: [P, P], of which the lower triangle of blocks is written; see :func:`symmetric`.
        features: common [K, C, B] and own [K, O, B], with P = C + K O.
        r: responsibilities [K, B].
        weights: of the rows [B].
    """
    unsure = unsure_rows(r, weights)
    if unsure is not None:
        features = Features(features.common[..., unsure], features.own[..., unsure])
        r, weights = r[:, unsure], weights[unsure]
    n_components, n_common, n_own = len(r), features.common.shape[1], features.own.shape[1]
    weighted = r * weights
    deviation = features.common - (r.unsqueeze(1) * features.common).sum(0)
    scaled = weighted.unsqueeze(1) * deviation
    total[:n_common, :n_common] += (scaled @ deviation.mT).sum(0)
    crossed = scaled @ features.own.mT
    for k in range(n_components):
        rows = slice(n_common + k * n_own, n_common + (k + 1) * n_own)
        total[rows, :n_common] += crossed[k].mT
        for j in range(k + 1):
            weight = weighted[k] * ((1.0 - r[k]) if j == k else -r[j])
            columns = slice(n_common + j * n_own, n_common + (j + 1) * n_own)
            total[rows, columns] += _product(features.own[k], features.own[j], weight)


def symmetric(total: Tensor) -> Tensor:
    """Return the whole matrix from its lower triangle.

    Args:
        total: [P, P].
    """
    lower = total.tril()
    return lower + lower.tril(-1).mT


def scores_of(features: Features, r: Tensor, weights: Tensor) -> Tensor:
    """Return derivatives of the rows' weighted log evidences, wᵢ Tᵢ'rᵢ [B, P].

    Args:
        features: of B rows.
        r: responsibilities [K, B].
        weights: of the rows [B].
    """
    weighted = (r * weights).unsqueeze(1)
    return torch.cat([(weighted * features.common).sum(0), (weighted * features.own).flatten(0, 1)]).mT


def unsure_rows(r: Tensor, weights: Tensor) -> Tensor | None:
    """Return the numbers of the rows that have missing information; None where nearly all have.

    Args:
        r: responsibilities [K, B].
        weights: of the rows [B].
    """
    unsure = (weights * (1.0 - r.amax(0)) > NEGLIGIBLE).nonzero().squeeze(-1)
    return unsure if len(unsure) < FEW * r.shape[1] else None


def _product(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """Return Σ weight · first second' [O, O], of the rows that count."""
    counted = (weight.abs() > NEGLIGIBLE).nonzero().squeeze(-1)
    if len(counted) < FEW * len(weight):
        first, second, weight = first[:, counted], second[:, counted], weight[counted]
    return (first * weight) @ second.mT
