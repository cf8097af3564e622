"""Rows of a table counted once each, in an order of their own.

Equal rows are one row with their number as its weight, rows of weight zero are left out, and the rest are sorted. So
weights are the same as repetition to the last digit, and neither the order of the rows nor repetition changes a fit.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class DistinctRows(NamedTuple):
    """Which rows of a table differ, and how much each of them counts."""

    first: Int[np.ndarray, " M"]  # number of the first row of each kind, the kinds in lexicographic order
    kind: Int[np.ndarray, " N"]  # number of the kind of each row; 0 for a row of weight zero
    counted: Bool[np.ndarray, " N"]  # whether the weight of a row is above zero
    weights: Float[np.ndarray, " M"] | None  # of each kind; None where every one is 1

    @property
    def uncounted(self) -> Int[np.ndarray, " Z"]:
        """Numbers of the rows of weight zero."""
        return np.flatnonzero(~self.counted)


def distinct_rows(columns: Float[np.ndarray, "N F"], weights: Float[np.ndarray, " N"] | None = None) -> DistinctRows:
    """Find the distinct rows of a table.

    Args:
        columns: all columns that a fit reads [N, F], finite.
        weights: how much each row counts [N], at least 0, one of them above; None where each counts once.

    Returns:
        The distinct rows of weight above zero.
    """
    counted = np.ones(len(columns), dtype=bool) if weights is None else weights > 0
    rows = np.flatnonzero(counted)
    order = rows[np.lexsort(columns[rows].T[::-1])] if columns.shape[1] else rows
    values = columns[order]
    begins = np.concatenate([[True], (values[1:] != values[:-1]).any(axis=1)])
    kind = np.zeros(len(columns), dtype=np.int64)
    kind[order] = np.cumsum(begins) - 1
    ones = np.ones(len(order)) if weights is None else weights[order]
    totals = np.add.reduceat(ones, np.flatnonzero(begins))
    return DistinctRows(order[begins], kind, counted, None if bool((totals == 1.0).all()) else totals)
