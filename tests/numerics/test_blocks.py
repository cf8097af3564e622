"""Sizes of blocks, and results of blocks compared with those of all rows at once."""

import pytest
import torch

from mixpyro.numerics import blocks
from mixpyro.numerics.blocks import in_blocks, repeated


@pytest.mark.parametrize("n_rows", [0, 1, 2, 1023, 1024, 1025, 3000])
def test_repeated_rows_are_equal_and_can_be_changed_one_by_one(n_rows: int) -> None:
    row = torch.rand(1, 3)
    result = repeated(row, n_rows)
    assert torch.equal(result, row.expand(n_rows, -1))
    assert result.is_contiguous()
    if n_rows > 1:
        result[0] += 1.0
        assert torch.equal(result[1:], row.expand(n_rows - 1, -1))


@pytest.mark.parametrize("n_rows", [1, 99, 100, 101, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blocks_have_the_result_of_all_rows_at_once(
    n_rows: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(numbers=300, least_rows=1))
    z = torch.rand(n_rows, 3, dtype=torch.float64)
    result = in_blocks(lambda block: block.cumsum(-1), z, dtype)
    assert torch.equal(result, z.cumsum(-1).to(dtype))


@pytest.mark.parametrize(("width", "n_rows"), [(1, 32_768), (8, 32_768), (1000, 262), (10**6, 128)])
def test_blocks_of_wide_rows_have_fewer_rows(width: int, n_rows: int) -> None:
    assert blocks.rows_per_block(width, torch.device("cpu")) == n_rows
    assert blocks.rows_per_e_step(width, torch.device("cpu")) == 4 * n_rows


def test_a_program_evaluates_at_least_one_draw_and_about_two_million_numbers() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [blocks.rows_per_program(width, cpu) for width in (1, 2**20, 10**9)] == [2**21, 2, 1]
    assert blocks.rows_per_program(2**20, gpu) == 128


def test_blocks_are_far_larger_on_a_gpu() -> None:
    assert blocks.rows_per_block(10, torch.device("cuda")) > 10 * blocks.rows_per_block(10, torch.device("cpu"))


@pytest.mark.parametrize("n_rows", [0, 1, 9, 10, 11, 25])
def test_slices_cover_every_row_once_and_in_order(n_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(most_rows=10))
    slices = list(blocks.row_slices(n_rows, width=3, device=torch.device("cpu")))
    rows = torch.arange(n_rows)
    assert [number for block in slices for number in rows[block].tolist()] == rows.tolist()
    assert all(1 <= block.stop - block.start <= 10 for block in slices)
