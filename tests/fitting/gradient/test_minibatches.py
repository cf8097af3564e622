"""Minibatches are those of a DataLoader, and subsamples are nested and weighted."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from mixpyro.fitting.gradient.minibatches import SMALLEST_SUBSAMPLE, growing_subsamples, shuffled_batches
from tests.problems import inputs


@pytest.mark.parametrize("n_rows", [1, 128, 129, 1000])
def test_batches_and_the_random_state_after_them_are_those_of_a_data_loader(n_rows: int) -> None:
    data = torch.arange(n_rows), inputs(n_rows, 3)
    torch.manual_seed(7)
    ours = [batch for _ in range(2) for batch in shuffled_batches(data, 128)]
    state = torch.get_rng_state()
    assert_equal_to_two_epochs_of_a_loader(ours, data)
    assert torch.equal(state, torch.get_rng_state())


def assert_equal_to_two_epochs_of_a_loader(ours: list[list[Tensor]], data: tuple[Tensor, ...]) -> None:
    """Draw the loader's batches under the same seed and compare."""
    torch.manual_seed(7)
    loader = DataLoader(TensorDataset(*data), batch_size=128, shuffle=True)
    theirs = [batch for _ in range(2) for batch in loader]
    assert len(ours) == len(theirs)
    for first, second in zip(ours, theirs, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("n_rows", "sizes"), [(4 * SMALLEST_SUBSAMPLE - 1, []), (100_000, [1562, 6250, 25_000])])
def test_each_subsample_contains_the_one_before_and_is_weighted_like_all_rows(n_rows: int, sizes: list[int]) -> None:
    state = torch.get_rng_state()
    subsamples = list(growing_subsamples((torch.arange(n_rows), torch.ones(n_rows, 2).double())))
    assert [len(rows) for rows, _ in subsamples] == sizes
    assert torch.equal(torch.get_rng_state(), state)
    for rows, weights in subsamples:
        assert float(weights[:, 0].sum()) == pytest.approx(n_rows)
        assert len(rows.unique()) == len(rows)
    for (smaller, _), (larger, _) in itertools.pairwise(subsamples):
        assert torch.isin(smaller, larger).all()
