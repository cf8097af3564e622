"""Streams on many processes have the digits of one, and find the same components."""

import pytest
import torch

from tests.distributed import stream_cases as cases
from tests.distributed.conftest import Ask

MODULE = cases.__name__


def test_a_stream_on_many_processes_is_that_of_one(ask: Ask) -> None:
    plain = cases.of_posteriors(0, 1, None)
    for n_ranks in (2, 3):
        for one in ask("of_posteriors", n_ranks, module=MODULE):
            assert all(torch.equal(value, plain[name]) for name, value in one.items())


@pytest.mark.parametrize("in_batches", [False, True])
def test_a_stream_of_estimates_is_that_of_one_process(in_batches: bool, ask: Ask) -> None:
    plain = cases.of_estimates(0, 1, None, in_batches)
    for one in ask("of_estimates", 3, in_batches, module=MODULE):
        assert one["warnings"] == plain["warnings"]
        assert all(torch.equal(value, plain["state"][name]) for name, value in one["state"].items())


@pytest.mark.parametrize("what", ["", "weights"])
def test_a_component_that_the_first_batch_lacks_is_found_on_ranks(what: str, ask: Ask) -> None:
    plain = cases.that_lacks_a_component(0, 1, None, what)
    torch.testing.assert_close(plain["intercepts"], torch.tensor([0.0, 3.0, 6.0]).double(), rtol=0, atol=0.3)
    for one in ask("that_lacks_a_component", 3, what, module=MODULE):
        assert all(torch.equal(value, plain[name]) for name, value in one.items())
