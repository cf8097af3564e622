"""Segments of rows."""

import pytest
import torch

from mixpyro.numerics.segments import Grouped, Segments, in_float64, selected

SIZES = [3, 1, 4, 2, 5]


def segments() -> Segments:
    """Five segments of 15 rows."""
    return Segments(torch.tensor(SIZES))


def test_a_sum_is_over_the_rows_of_each_segment() -> None:
    values = torch.randn(2, 3, sum(SIZES)).double()
    by_hand = torch.stack([part.sum(-1) for part in values.split(SIZES, dim=-1)], dim=-1)
    torch.testing.assert_close(segments().sum(values), by_hand, rtol=0, atol=1e-14)


def test_a_sum_has_derivatives() -> None:
    assert torch.autograd.gradcheck(segments().sum, torch.randn(2, sum(SIZES)).double().requires_grad_())


def test_rows_have_what_their_segment_has() -> None:
    values = torch.randn(2, len(SIZES))
    assert torch.equal(segments().spread(values), values.repeat_interleave(torch.tensor(SIZES), dim=-1))


@pytest.mark.parametrize("chosen", [slice(0, 5), slice(1, 3), slice(4, 5), torch.tensor([4, 0, 0, 2])])
def test_selected_segments_have_their_rows(chosen: slice | torch.Tensor) -> None:
    columns = torch.arange(2.0 * sum(SIZES)).view(2, -1)
    found = selected(Grouped(columns, segments()), chosen)
    parts = columns.split(SIZES, dim=-1)
    numbers = torch.arange(5)[chosen].tolist()
    assert torch.equal(found.columns, torch.cat([parts[number] for number in numbers], dim=-1))
    assert found.segments.sizes.tolist() == [SIZES[number] for number in numbers]


def test_a_selection_goes_through_tuples() -> None:
    labels, columns = torch.arange(5), torch.arange(15.0)
    own, grouped = selected((labels, Grouped(columns, segments())), slice(1, 2))
    assert own.tolist() == [1] and grouped.columns.tolist() == [3.0]
    assert in_float64((labels, grouped))[1].columns.dtype == torch.float64


@pytest.mark.parametrize("n_rows", range(1, 17))
def test_blocks_cover_all_segments_once(n_rows: int) -> None:
    blocks = list(segments().blocks(n_rows))
    assert [number for block in blocks for number in range(block.start, block.stop)] == list(range(5))
    assert all(block.stop - block.start == 1 or sum(SIZES[block]) <= n_rows + max(SIZES) for block in blocks)


@pytest.mark.parametrize("seed", range(20))
def test_blocks_of_many_segments_have_about_the_rows_asked_for(seed: int) -> None:
    sizes = torch.randint(1, 9, (50,), generator=torch.Generator().manual_seed(seed))
    blocks = list(Segments(sizes).blocks(20))
    assert [number for block in blocks for number in range(block.start, block.stop)] == list(range(50))
    assert max(int(sizes[block].sum()) for block in blocks) < 20 + 9
