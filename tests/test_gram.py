"""Sums of weighted outer products."""

import pytest
import torch

from mixpyro import gram


@pytest.mark.parametrize("n_weights", [2, 7])
@pytest.mark.parametrize("n_rows", [1, 9, 10, 25])
def test_products_of_unlike_rows_are_float64_sums_either_way_round(
    n_rows: int, n_weights: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gram, "BLOCK_ROWS", 10)
    weights, v, u = torch.rand(n_rows, n_weights), torch.randn(n_rows, 3), torch.randn(n_rows, 4)
    plain = torch.einsum("nm,nf,ne->mfe", weights.double(), v.double(), u.double())
    torch.testing.assert_close(gram.weighted_products(weights, v, u), plain)


def test_squared_norms_are_those_of_the_plain_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "BLOCK_ROWS", 10)
    maps, columns = torch.randn(3, 5, 4).double(), torch.randn(4, 23).double()
    plain = torch.einsum("mrc,cn->nmr", maps, columns).square().sum(-1)
    torch.testing.assert_close(gram.squared_norms(maps, columns), plain)


def test_column_means_of_a_large_offset_are_exact_to_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "BLOCK_ROWS", 3)
    rows = 1e6 + torch.randn(200, 2)
    torch.testing.assert_close(gram.column_means(rows), rows.double().mean(0), rtol=1e-14, atol=0)


@pytest.mark.parametrize("n_rows", [1, 9, 10, 25])
def test_blocks_add_up_to_the_plain_formula(n_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "BLOCK_ROWS", 10)
    weights, u = torch.rand(n_rows, 3).double(), torch.randn(n_rows, 4).double()
    torch.testing.assert_close(gram.weighted_gram(weights, u), torch.einsum("nm,ne,nf->mef", weights, u, u))
