"""Sums of weighted outer products."""

import pytest
import torch

from mixpyro import gram


@pytest.mark.parametrize("n_rows", [1, 9, 10, 25])
def test_blocks_add_up_to_the_plain_formula(n_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "BLOCK_ROWS", 10)
    weights, u = torch.rand(n_rows, 3).double(), torch.randn(n_rows, 4).double()
    torch.testing.assert_close(gram.weighted_gram(weights, u), torch.einsum("nm,ne,nf->mef", weights, u, u))
