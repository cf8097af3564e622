"""Weighted sums over blocks of rows, compared with the plain formulas."""

import pytest
import torch
from torch import Tensor

from mixpyro.numerics import blocks, weighted_sums
from mixpyro.numerics.weighted_sums import column_sums, quick_column_sums

MANY = 2_000_003


def test_squared_norms_agree_with_the_plain_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(most_rows=10))
    maps, columns = torch.randn(3, 5, 4).double(), torch.randn(4, 23).double()
    plain = torch.einsum("mrc,cn->nmr", maps, columns).square().sum(-1)
    torch.testing.assert_close(weighted_sums.squared_norms(maps, columns), plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_quadratic_forms_agree_with_the_plain_formula(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(most_rows=10))
    root, columns = torch.randn(3, 4, 4).double(), torch.randn(4, 23, dtype=dtype)
    matrices = root @ root.mT
    plain = torch.einsum("an,mab,bn->nm", columns.double(), matrices, columns.double()).to(dtype)
    torch.testing.assert_close(weighted_sums.quadratic_forms(matrices, columns), plain)


@pytest.mark.parametrize("n_weights", [1, 4, 5, 20])
@pytest.mark.parametrize("n_rows", [1, 9, 10, 25])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weighted_outer_products_agree_with_the_plain_formula_in_float64(
    n_rows: int, n_weights: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few weights and many weights are summed by different formulas."""
    monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(most_rows=10))
    weights, u = torch.rand(n_rows, n_weights, dtype=dtype), torch.randn(n_rows, 4, dtype=dtype)
    plain = torch.einsum("nm,ne,nf->mef", weights.double(), u.double(), u.double())
    torch.testing.assert_close(weighted_sums.weighted_gram(weights, u), plain, rtol=1e-12, atol=1e-12)


def relative_error(z: Tensor) -> float:
    """Largest relative error of the sums of columns, compared with the sums in float64."""
    exact = z.double().sum(0)
    return float(((column_sums(z) - exact).abs() / exact).max())


def float32_rows(kind: str) -> Tensor:
    """Rows [N, 3] whose rounding errors accumulate in a plain float32 sum."""
    z = torch.rand(MANY, 3)
    return {
        "random": z,
        "all alike": torch.full((MANY, 3), 0.1),
        "mostly tiny": torch.where(z < 1e-4, z, 1e-9 * z),
        "one large": torch.where(torch.arange(MANY).unsqueeze(1) == 7, 1e7, z),
        "columns first": z.mT.contiguous().mT,
        "weights of one column": torch.eye(3)[torch.zeros(MANY, dtype=torch.long)] + 1e-12,
    }[kind]


@pytest.mark.parametrize(
    "kind", ["random", "all alike", "mostly tiny", "one large", "columns first", "weights of one column"]
)
def test_sums_of_float32_columns_agree_with_float64(kind: str) -> None:
    error = relative_error(float32_rows(kind))
    assert error < 1e-12, f"relative error {error:.2e}"


def test_sums_of_ten_million_float32_rows_agree_with_float64() -> None:
    error = relative_error(torch.rand(10_000_000, 2))
    assert error < 1e-12, f"relative error {error:.2e}"


@pytest.mark.parametrize("kind", ["random", "all alike", "mostly tiny", "one large", "columns first"])
def test_quick_sums_are_as_exact_as_float32_rows(kind: str) -> None:
    z = float32_rows(kind)
    torch.testing.assert_close(quick_column_sums(z), z.double().sum(0), rtol=3e-7, atol=0)


def test_quick_sums_of_large_numbers_are_finite() -> None:
    z = torch.full((MANY, 2), 1e38)
    torch.testing.assert_close(quick_column_sums(z), z.double().sum(0), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_sums_of_other_dtypes_agree_with_float64(dtype: torch.dtype) -> None:
    z = torch.rand(10_000, 3).to(dtype)
    torch.testing.assert_close(column_sums(z), z.double().sum(0), rtol=1e-13, atol=0)


@pytest.mark.parametrize("n_rows", [1, 127, 128, 250, 251, 2047, 2048, 2049, 5000])
def test_sums_of_any_number_of_rows_agree_with_float64(n_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(numbers=1000, least_rows=1))
    z = torch.rand(n_rows, 4)
    torch.testing.assert_close(column_sums(z), z.double().sum(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(column_sums(z.double()), z.double().sum(0), rtol=1e-13, atol=0)


def test_nan_and_infinity_appear_in_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(numbers=1000, least_rows=1))
    for bad in (float("nan"), float("inf")):
        z = torch.rand(5000, 3)
        z[4321, 1] = bad
        assert column_sums(z).isfinite().tolist() == [True, False, True]
