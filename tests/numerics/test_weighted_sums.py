"""Sums of weighted outer products."""

import pytest
import torch

from mixpyro.numerics import weighted_sums


def test_squared_norms_are_those_of_the_plain_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weighted_sums, "BLOCK_ROWS", 10)
    maps, columns = torch.randn(3, 5, 4).double(), torch.randn(4, 23).double()
    plain = torch.einsum("mrc,cn->nmr", maps, columns).square().sum(-1)
    torch.testing.assert_close(weighted_sums.squared_norms(maps, columns), plain)


def test_column_means_of_a_large_offset_are_exact_to_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weighted_sums, "BLOCK_ROWS", 3)
    rows = 1e6 + torch.randn(200, 2)
    torch.testing.assert_close(weighted_sums.column_means(rows), rows.double().mean(0), rtol=1e-14, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_quadratic_forms_are_those_of_the_plain_formula(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weighted_sums, "BLOCK_ROWS", 10)
    root, columns = torch.randn(3, 4, 4).double(), torch.randn(4, 23, dtype=dtype)
    matrices = root @ root.mT
    plain = torch.einsum("an,mab,bn->nm", columns.double(), matrices, columns.double()).to(dtype)
    torch.testing.assert_close(weighted_sums.quadratic_forms(matrices, columns), plain)


@pytest.mark.parametrize("n_weights", [1, 4, 5, 20])
@pytest.mark.parametrize("n_rows", [1, 9, 10, 25])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blocks_add_up_to_the_plain_formula_in_float64(
    n_rows: int, n_weights: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of few weights and of many, which are summed in two ways."""
    monkeypatch.setattr(weighted_sums, "BLOCK_ROWS", 10)
    weights, u = torch.rand(n_rows, n_weights, dtype=dtype), torch.randn(n_rows, 4, dtype=dtype)
    plain = torch.einsum("nm,ne,nf->mef", weights.double(), u.double(), u.double())
    torch.testing.assert_close(weighted_sums.weighted_gram(weights, u), plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("width", "n_rows"), [(1, 8192), (1000, 1048), (10**6, 128)])
def test_wide_rows_make_small_blocks(width: int, n_rows: int) -> None:
    assert weighted_sums.block_rows(width, torch.device("cpu")) == n_rows
