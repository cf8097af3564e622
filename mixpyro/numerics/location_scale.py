"""Location and scale of columns of data, which a few huge values do not move."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

# Share of the rows whose distance from the median is at most the scale times NORMAL_POINT.
SHARE = 0.9
# Distance from the mean, in standard deviations, that this share of a Normal distribution is within.
NORMAL_POINT = 1.6448536269514722
# Rows that are looked at, evenly spaced, where there are more: of a million they would take longer than an iteration.
MOST_ROWS = 20_000
# A scale below this times the location is the rounding of a constant column.
ROUNDING = 1e-14


class LocationScale(NamedTuple):
    """Where each column lies, and how far its values are spread, in its own units."""

    location: Tensor  # [P], float64
    scale: Tensor  # [P], float64, above zero


def location_scale(rows: Tensor, weights: Tensor | None = None, *, from_zero: bool = False) -> LocationScale:
    """Return the median of each column and the scale of the distances from it.

    The scale is the distance that nine tenths of the rows are within, divided by 1.645: the standard deviation if the
    column is Normal. Fewer than a tenth of the rows, however far away, change neither much; groups of a tenth and more
    are seen. Where nine tenths of the rows are equal, as in a rare indicator, the scale is the root mean squared
    distance; for a constant column it is 1. Both are equivariant: of a + c·column they are a + c·location and
    |c|·scale. Of more than ``MOST_ROWS`` rows, as many are looked at, evenly spaced.

    Args:
        rows: [N, P], N at least 1, of any floating dtype.
        weights: how much each row counts [N], at least 0, in any unit; a row of weight three is three rows. None where
            each counts once.
        from_zero: whether distances are counted from zero, which is the location then.
    """
    if len(rows) > MOST_ROWS:
        sample = torch.arange(MOST_ROWS, device=rows.device) * len(rows) // MOST_ROWS
        rows, weights = rows[sample], None if weights is None else weights[sample]
    columns = rows.detach().mT.double()
    if columns.numel() == 0:
        return LocationScale(columns.new_zeros(len(columns)), columns.new_ones(len(columns)))
    location = columns.new_zeros(len(columns)) if from_zero else _medians(columns, weights)
    # Halves first: the difference of two large numbers of unlike sign may be no finite number.
    distances = torch.sub(0.5 * columns, location.unsqueeze(-1), alpha=0.5).abs_().mul_(2.0)
    scale, least = _quantiles(distances, weights, SHARE) / NORMAL_POINT, ROUNDING * location.abs()
    if bool((scale > least).all()):
        return LocationScale(location, scale)
    scale = torch.where(scale > least, scale, _root_mean_squares(distances, weights))
    return LocationScale(location, torch.where(scale > least, scale, 1.0))


def _medians(columns: Tensor, weights: Tensor | None) -> Tensor:
    """Return the middle value of each column [P, N], or the mean of the two middle ones."""
    return 0.5 * _quantiles(columns, weights, 0.5) - 0.5 * _quantiles(-columns, weights, 0.5)


def _quantiles(columns: Tensor, weights: Tensor | None, share: float) -> Tensor:
    """Return the smallest value of each column [P, N] that at least a share of the rows do not exceed."""
    if weights is None:
        return columns.kthvalue(max(1, math.ceil(share * columns.shape[1] * (1.0 - ROUNDING)))).values
    ordered, order = columns.sort()
    cumulated = weights.double()[order].cumsum(-1)
    # A little less than the share: sums of equal weights are rounded.
    reached = cumulated >= share * (1.0 - 1e-9) * cumulated[:, -1:]
    return ordered.gather(-1, reached.int().argmax(-1, keepdim=True)).squeeze(-1)


def _root_mean_squares(columns: Tensor, weights: Tensor | None) -> Tensor:
    """Return √(mean of the squares) of each column [P, N], without squares that are too large or small to hold."""
    largest = columns.amax(-1, keepdim=True).clamp_min(torch.finfo(columns.dtype).tiny)
    squares = (columns / largest).square()
    weights = columns.new_ones(columns.shape[1]) if weights is None else weights.double()
    return largest.squeeze(-1) * (squares @ (weights / weights.sum())).sqrt()
