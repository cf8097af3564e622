"""Samples to begin a search on."""

import itertools

import pytest
import torch

from mixpyro.fitting.gradient.samples import SMALLEST_SAMPLE, growing_samples


@pytest.mark.parametrize(("n_rows", "sizes"), [(4 * SMALLEST_SAMPLE - 1, []), (100_000, [1562, 6250, 25_000])])
def test_each_is_part_of_the_next_and_counts_for_all_rows(n_rows: int, sizes: list[int]) -> None:
    state = torch.get_rng_state()
    samples = list(growing_samples((torch.arange(n_rows), torch.ones(n_rows, 2).double())))
    assert [len(rows) for rows, _ in samples] == sizes
    assert torch.equal(torch.get_rng_state(), state)
    for rows, weights in samples:
        assert float(weights[:, 0].sum()) == pytest.approx(n_rows)
        assert len(rows.unique()) == len(rows)
    for (smaller, _), (larger, _) in itertools.pairwise(samples):
        assert torch.isin(smaller, larger).all()
