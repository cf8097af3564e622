"""The least and the largest number of each column are those of PyTorch."""

import pytest
import torch

from mixpyro.numerics.extremes import COMPARED_NUMBERS, least_of_columns, most_of_columns


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_columns", [0, 1, 2, 7, COMPARED_NUMBERS // 2, COMPARED_NUMBERS + 1])
@pytest.mark.parametrize("n_rows", [1, 2, 1023, 1024, 5000])
def test_extremes_are_those_of_pytorch(n_rows: int, n_columns: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(n_rows)
    rows = torch.randn(n_rows, n_columns, generator=generator, dtype=dtype)
    for own in (rows, rows.mT.contiguous().mT, rows[:, : n_columns // 2]):
        assert least_of_columns(own).equal(own.amin(0))
        assert most_of_columns(own).equal(own.amax(0))


@pytest.mark.parametrize("place", [0, 4000, 4999])
def test_a_missing_value_and_an_infinite_one_are_seen_wherever_they_are(place: int) -> None:
    rows = torch.arange(15_000.0, dtype=torch.float64).view(5000, 3)
    rows[place, 1], rows[place, 2] = torch.nan, torch.inf
    for found in (least_of_columns(rows), most_of_columns(rows)):
        assert found.isnan().tolist() == [False, True, False]
    assert most_of_columns(rows)[2] == torch.inf
    assert least_of_columns(-rows)[2] == -torch.inf
