"""Sums and copies of many rows against the plain formulas."""

import pytest
import torch
from torch import Tensor

from mixpyro.numerics import blocks
from mixpyro.numerics.blocks import column_sums, in_blocks, repeated

MANY = 2_000_003


def relative_error(z: Tensor) -> float:
    """Of the sums of columns, against those of z in float64."""
    exact = z.double().sum(0)
    return float(((column_sums(z) - exact).abs() / exact).max())


def z_of(kind: str) -> Tensor:
    """Rows that make rounding errors add up, in one way or another [N, 3], float32."""
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
def test_sums_of_float32_columns_are_those_of_float64(kind: str) -> None:
    error = relative_error(z_of(kind))
    assert error < 1e-12, f"relative error {error:.2e}"


def test_sums_of_ten_million_float32_rows() -> None:
    error = relative_error(torch.rand(10_000_000, 2))
    assert error < 1e-12, f"relative error {error:.2e}"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_sums_of_other_dtypes_are_taken_in_float64(dtype: torch.dtype) -> None:
    z = torch.rand(10_000, 3).to(dtype)
    torch.testing.assert_close(column_sums(z), z.double().sum(0), rtol=1e-13, atol=0)


@pytest.mark.parametrize("n_rows", [1, 127, 2047, 2048, 2049, 5000])
def test_sums_of_any_number_of_rows(n_rows: int) -> None:
    z = torch.rand(n_rows, 4)
    torch.testing.assert_close(column_sums(z), z.double().sum(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(column_sums(z.double()), z.double().sum(0), rtol=1e-13, atol=0)


def test_nan_and_infinity_show_in_the_sum() -> None:
    for bad in (float("nan"), float("inf")):
        z = torch.rand(5000, 3)
        z[4321, 1] = bad
        assert column_sums(z).isfinite().tolist() == [True, False, True]


@pytest.mark.parametrize("n_rows", [0, 1, 2, 1023, 1024, 1025, 3000])
def test_a_row_repeated_is_the_row_everywhere_and_may_be_changed(n_rows: int) -> None:
    row = torch.rand(1, 3)
    result = repeated(row, n_rows)
    assert torch.equal(result, row.expand(n_rows, -1))
    assert result.is_contiguous()
    if n_rows > 1:
        result[0] += 1.0
        assert torch.equal(result[1:], row.expand(n_rows - 1, -1))


@pytest.mark.parametrize("n_rows", [1, 99, 100, 101, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blocks_give_what_all_rows_at_once_give(
    n_rows: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 300)
    z = torch.rand(n_rows, 3, dtype=torch.float64)
    result = in_blocks(lambda block: block.cumsum(-1), z, dtype)
    assert torch.equal(result, z.cumsum(-1).to(dtype))
