"""Sums of products of four columns against einsum."""

import pytest
import torch

from mixpyro.numerics import blocks
from mixpyro.numerics.quartics import Quartics, number_of_quartics


@pytest.mark.parametrize("n_columns", [1, 2, 3, 5])
def test_sums_are_those_of_all_products(n_columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(least_rows=1, most_rows=7))
    columns, weights = torch.randn(n_columns, 23).double(), torch.rand(3, 23).double()
    quartics = Quartics(n_columns, 3, columns)
    quartics.add(columns[:, :11], weights[:, :11])
    quartics.add(columns[:, 11:], weights[:, 11:])
    first, second = torch.triu_indices(n_columns, n_columns)
    pairs = columns[first] * columns[second]
    for number in range(3):
        expected = (pairs * weights[number]) @ pairs.mT
        torch.testing.assert_close(quartics.gram(number), expected, rtol=1e-12, atol=1e-12)


def test_each_product_is_summed_once() -> None:
    assert [number_of_quartics(n) for n in (1, 2, 3, 12)] == [1, 5, 15, 1365]
    assert Quartics(12, 28, torch.ones(1)).sums.shape == (1365, 28)
