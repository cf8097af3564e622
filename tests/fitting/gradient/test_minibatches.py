"""Minibatches are those of a DataLoader."""

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from mixpyro.fitting.gradient import minibatches
from mixpyro.fitting.gradient.minibatches import shuffled_batches
from tests.problems import inputs


@pytest.mark.parametrize("n_rows", [1, 128, 129, 1000, 20_000])
def test_batches_are_those_of_a_data_loader(n_rows: int) -> None:
    """Also where the rows of several batches are gathered more than once; the random state after them is the same."""
    data = torch.arange(n_rows), inputs(n_rows, 3)
    torch.manual_seed(7)
    ours = [batch for _ in range(2) for batch in shuffled_batches(data, 128)]
    state = torch.get_rng_state()
    assert_all_equal_to_a_loaders(ours, data)
    assert torch.equal(state, torch.get_rng_state())


def assert_all_equal_to_a_loaders(ours: list[list[Tensor]], data: tuple[Tensor, ...]) -> None:
    """Those of two epochs, under the seed."""
    torch.manual_seed(7)
    loader = DataLoader(TensorDataset(*data), batch_size=128, shuffle=True)
    theirs = [batch for _ in range(2) for batch in loader]
    assert len(ours) == len(theirs)
    for first, second in zip(ours, theirs, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_test_of_it_gathers_more_than_once() -> None:
    assert 20_000 > 2 * minibatches.N_GATHERED * 128
