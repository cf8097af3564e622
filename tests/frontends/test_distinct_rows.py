"""Distinct rows and their weights."""

import numpy as np

from mixpyro.frontends.distinct_rows import distinct_rows


def test_rows_are_counted_and_sorted() -> None:
    generator = np.random.default_rng(0)
    rows = generator.integers(0, 3, (50, 2)).astype(float)
    weights = generator.integers(0, 3, 50).astype(float)
    found = distinct_rows(rows, weights)
    expected, inverse = np.unique(rows[weights > 0], axis=0, return_inverse=True)
    np.testing.assert_array_equal(rows[found.first], expected)
    np.testing.assert_array_equal(rows[found.first][found.kind[found.counted]], rows[weights > 0])
    np.testing.assert_array_equal(found.weights, np.bincount(inverse.ravel(), weights[weights > 0]))
    np.testing.assert_array_equal(found.uncounted, np.flatnonzero(weights == 0))


def test_no_weights_where_every_row_counts_once() -> None:
    rows = np.array([[2.0], [1.0]])
    assert distinct_rows(rows).weights is None
    assert distinct_rows(rows, np.ones(2)).weights is None
    assert distinct_rows(rows, np.array([0.0, 1.0])).weights is None
    assert distinct_rows(rows, np.array([0.5, 1.0])).weights is not None
