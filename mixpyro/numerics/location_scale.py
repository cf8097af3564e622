"""Location and scale of columns of data, which a few huge values do not move."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro.distributed import rows as whole

# Share of the rows whose distance from the median is at most the scale times NORMAL_POINT.
SHARE = 0.9
# Distance from the mean, in standard deviations, that this share of a Normal distribution is within.
NORMAL_POINT = 1.6448536269514722
# Rows that are looked at where there are more: of a million they would take longer than an iteration.
MOST_ROWS = 20_000
# Scales beyond which a value is moved in, for correlations and for the spread of far groups.
NEAR, FAR = 5.0, 100.0
# Least share of a correlation that is taken off, so that collinear columns have a definite matrix.
LEAST_SHRINKAGE = 1e-6
# A scale below this times the location is the rounding of a constant column.
ROUNDING = 1e-14


class LocationScale(NamedTuple):
    """Where each column lies, and how far its values are spread, in its own units."""

    location: Tensor  # [P], float64
    scale: Tensor  # [P], float64, above zero


class ColumnScales(NamedTuple):
    """Location and scale of each column, and how columns vary together."""

    location: Tensor  # [P], float64
    scale: Tensor  # [P], float64, above zero
    correlation: Tensor  # [P, P], float64, positive definite
    reach: Tensor  # how many scales a tenth of the rows at most, further away, make of the spread [P], at least 1


def location_scale(rows: Tensor, weights: Tensor | None = None, *, from_zero: bool = False) -> LocationScale:
    """Return the median of each column, and the scale of the distances from it.

    The scale is the distance that nine tenths of the rows are within, divided by 1.645: the standard deviation if the
    column is Normal. Fewer than a tenth of the rows, however far away, change neither much; groups of a tenth and more
    are seen. Of a column in which nine tenths of the rows are equal, as of a rare indicator, the rows that differ are
    looked at; for a constant column the scale is 1. All are equivariant: of a + c·column they are a + c·location and
    |c|·scale. Of more than ``MOST_ROWS`` rows, as many are drawn, always the same ones.

    Args:
        rows: [N, P], N at least 1, of any floating dtype. A value that was not observed is NaN, and left out.
        weights: how much each row counts [N], at least 0; a row of weight three is three rows. None where each counts
            once.
        from_zero: whether distances are counted from zero, which is the location then.
    """
    all_rows, all_weights = rows, weights
    rows, weights = sample_of(rows, weights)
    columns = rows.detach().mT.double()
    if columns.numel() == 0:
        return LocationScale(columns.new_zeros(len(columns)), columns.new_ones(len(columns)))
    if bool(columns.isnan().any()):
        return _of_observed(all_rows, all_weights, from_zero=from_zero)
    location = columns.new_zeros(len(columns)) if from_zero else _medians(columns, weights)
    distances = _distances(columns, location)
    scale, least = _quantiles(distances, weights, SHARE) / NORMAL_POINT, ROUNDING * location.abs()
    for number in (~(scale > least)).nonzero().flatten().tolist():
        values = _distances(all_rows[:, number : number + 1].detach().mT.double(), location[number : number + 1])[0]
        scale[number] = _of_those_that_differ(values, all_weights, least[number])
    return LocationScale(location, scale)


def _of_observed(rows: Tensor, weights: Tensor | None, *, from_zero: bool) -> LocationScale:
    """Return the same of columns with missing values, one by one; 0 and 1 for a column without any value."""
    found = []
    for column in rows.detach().mT:
        seen = ~column.isnan() if weights is None else ~column.isnan() & (weights > 0)
        has_any = whole.any_of(bool(seen.any()))
        own = column[seen].unsqueeze(-1) if has_any else column.new_zeros(1, 1)
        own_weights = None if weights is None or not has_any else weights[seen]
        found.append(location_scale(own, own_weights, from_zero=from_zero))
    return LocationScale(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def column_scales(rows: Tensor, weights: Tensor | None = None, *, from_zero: bool = False) -> ColumnScales:
    """Return location and scale of each column, the correlation of the columns, and how far rows reach.

    Args:
        rows: as for :func:`location_scale`, like the other arguments.
        weights: how much each row counts [N]; None where each counts once.
        from_zero: whether distances are counted from zero.
    """
    location, scale = location_scale(rows, weights, from_zero=from_zero)
    rows, weights = sample_of(rows, weights)
    if rows.numel() == 0:
        return ColumnScales(location, scale, scale.diag(), scale)
    centred = (rows.detach().mT.double() - location.unsqueeze(-1)) / scale.unsqueeze(-1)
    centred = centred.nan_to_num(nan=0.0)
    return ColumnScales(location, scale, *_moments(centred, weights, from_zero=from_zero))


def sample_of(rows: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return all rows, or a sample where they are many, with their weights.

    Args:
        rows: [N, P]; of this process, where they lie on several.
        weights: how much each row counts [N]; None where each counts once.
    """
    sample = whole.drawn(rows, MOST_ROWS)
    if sample is None:
        return whole.gathered(rows), None if weights is None else whole.gathered(weights)
    return whole.sampled(rows, sample), None if weights is None else whole.sampled(weights, sample)


def _distances(columns: Tensor, location: Tensor) -> Tensor:
    """Return the distance of every value of columns [P, N] from a location."""
    # Halves first: the difference of two large numbers of unlike sign may be no finite number.
    return torch.sub(0.5 * columns, location.unsqueeze(-1), alpha=0.5).abs_().mul_(2.0)


def _of_those_that_differ(distances: Tensor, weights: Tensor | None, least: Tensor) -> Tensor:
    """Return the scale of a column [N] of which nine tenths are equal: the median of the others, √(their share) times.

    Of a 0/1 column it is about the standard deviation, and a few huge values do not move it.
    """
    weights = torch.ones_like(distances) if weights is None else weights.double()
    differs = (distances > least) & (weights > 0)
    if not whole.any_of(bool(differs.any())):
        return torch.ones_like(least)
    values, own = whole.gathered(distances[differs]), whole.gathered(weights[differs])
    share = own.sum() / whole.total(weights)
    return share.sqrt() * _quantiles(values.unsqueeze(0), own, 0.5)[0]


def _moments(centred: Tensor, weights: Tensor | None, *, from_zero: bool) -> tuple[Tensor, Tensor]:
    """Return the correlation matrix and the reach of columns [P, N] in units of their scales.

    Values beyond ``NEAR`` scales are moved in for the former, beyond ``FAR`` for the latter. The correlations are
    shrunk towards none, the more so the fewer the rows are for the columns, so that the matrix is positive definite.
    """
    weights = centred.new_ones(centred.shape[1]) if weights is None else weights.double()
    total = weights.sum()
    near = centred.clamp(-NEAR, NEAR)
    if not from_zero:
        near = near - (near @ weights / total).unsqueeze(-1)
    covariance = (near * weights) @ near.mT / total
    covariance = 0.5 * (covariance + covariance.mT)
    deviation = covariance.diagonal().sqrt()
    deviation = torch.where(deviation > 0.0, deviation, 1.0)
    shrinkage = max(LEAST_SHRINKAGE, min(1.0, float(len(centred) / total)) ** 2)
    correlation = (1.0 - shrinkage) * covariance / torch.outer(deviation, deviation)
    correlation.diagonal().fill_(1.0)
    reach = (centred.clamp(-FAR, FAR).square() @ weights / total).sqrt().clamp_min(1.0)
    return correlation, reach


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
