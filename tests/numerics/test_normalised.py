"""Responsibilities from log joint densities, against softmax and logsumexp."""

import pytest
import torch

from mixpyro.numerics.normalised import normalised


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shares_are_those_of_a_softmax_and_zero_where_they_underflow(dtype: torch.dtype) -> None:
    columns = torch.tensor([[0.0, -5.0, 800.0, 0.0], [1.0, -90.0, -900.0, -torch.inf]], dtype=dtype)
    shares, log_sums = normalised(columns)
    torch.testing.assert_close(shares, columns.softmax(0), rtol=1e-6, atol=1e-30)
    torch.testing.assert_close(log_sums, columns.logsumexp(0))
    assert shares[1, 2:].tolist() == [0.0, 0.0]


def test_an_object_that_is_impossible_everywhere_has_log_evidence_minus_infinity() -> None:
    _, log_sums = normalised(torch.full((2, 3, 1), -torch.inf))
    assert log_sums.tolist() == [[-torch.inf], [-torch.inf]]


def test_an_object_that_is_impossible_everywhere_has_part_in_no_component() -> None:
    shares, _ = normalised(torch.tensor([[-torch.inf, 0.0], [-torch.inf, 0.0]]))
    assert shares.tolist() == [[0.0, 0.5], [0.0, 0.5]]
