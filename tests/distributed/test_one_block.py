"""Rows that are one block, which every rank has; streams of estimates; ranks whose arguments differ."""

from typing import Any

import pytest
import torch

from mixpyro.distributed import blocks
from tests.distributed import one_block_cases as cases
from tests.distributed.cases import SMALL
from tests.distributed.conftest import Ask
from tests.distributed.test_fit import assert_equal

MODULE = cases.__name__


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("softmax, poisson", blocks.Limits()),
        ("object dirichlet, poisson", blocks.Limits()),
        ("learnt mean, linear", blocks.Limits()),
        ("dirichlet, random effects with groups", blocks.Limits()),
        ("dirichlet, linear with missing", blocks.Limits()),
        ("object dirichlet, poisson", SMALL),
        ("sticks, neural with groups", SMALL),
    ],
)
def test_digits_are_those_of_one_process(name: str, limits: blocks.Limits, ask: Ask) -> None:
    plain = cases.fitted(0, 1, None, name, limits)
    assert_equal(ask("fitted", 2 if limits is SMALL else 4, name, limits, module=MODULE), plain)


def test_random_effects_are_fitted_in_blocks_of_groups(ask: Ask) -> None:
    name = "dirichlet, random effects with groups"
    plain = cases.fitted(0, 1, None, name, SMALL)
    for one in ask("fitted", 2, name, SMALL, module=MODULE):
        assert all(torch.equal(value, plain["state"][name]) for name, value in one["state"].items())
        for trace, expected in zip(one["traces"], plain["traces"], strict=True):
            assert trace == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("limits", [SMALL, blocks.Limits()])
def test_rows_of_weight_zero_have_shares_at_every_optimum(limits: blocks.Limits, ask: Ask) -> None:
    name = "dirichlet, linear with zero weights"
    plain = cases.fitted(0, 1, None, name, limits)
    found = ask("fitted", 4, name, limits, module=MODULE)
    for one in found:
        for part in ("traces", "optima", "cautions", "n_objects", "n_rows"):
            assert one[part] == plain[part], part
        assert all(torch.equal(value, plain["state"][name]) for name, value in one["state"].items())
    torch.testing.assert_close(torch.cat([one["shares"] for one in found]), plain["shares"], rtol=1e-12, atol=1e-15)
    assert len(plain["others"]) >= 1
    for number, expected in enumerate(plain["others"]):
        together = torch.cat([one["others"][number] for one in found])
        torch.testing.assert_close(together, expected, rtol=1e-12, atol=1e-15)


def test_a_mean_of_objects_is_learnt_from_all_blocks() -> None:
    found: list[dict[str, Any]] = [
        cases.fitted(0, 1, None, "learnt mean, linear", limits) for limits in (SMALL, blocks.Limits())
    ]
    for one, other in zip(found[0]["traces"], found[1]["traces"], strict=True):
        assert one == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize("in_batches", [False, True])
def test_a_stream_of_estimates_is_that_of_one_process(in_batches: bool, ask: Ask) -> None:
    plain = cases.streamed(0, 1, None, in_batches)
    assert plain["warnings"]
    for rank, one in enumerate(ask("streamed", 3, in_batches, module=MODULE)):
        assert one["warnings"] == (plain["warnings"] if rank == 0 else [])
        assert all(torch.equal(value, plain["state"][name]) for name, value in one["state"].items())


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("type", "rank 1 raised TypeError: `progress` must be True or False"),
        ("mixture", "rank 1 raised TypeError: `mixture` must be a mixture"),
        ("dtype", "`x` is of shape [N, 2] and torch.float64 on rank 0, of shape [N, 2] and torch.float32 on rank 1"),
        ("start", "`initial_responsibilities` is None on rank 0"),
        ("own start", "all ranks must compute the same numbers"),
        ("levels", "`columns of x` is 'a', 'b' (levels 'u', 'v') on rank 0, 'a', 'b' (levels 'u', 'w') on rank 1"),
        ("reader", "rank 1 raised OSError: the file is gone"),
        ("formula", "`fit_formula` must be called in one process"),
        ("tree", "`grow_tree` must be called in one process"),
        ("groups", "`groups` is None on rank 0, given on rank 1"),
    ],
)
def test_what_differs_on_one_rank_is_said_on_all(what: str, said: str, ask: Ask) -> None:
    found = ask("with_fault", 2, what, module=MODULE)
    assert said in found[0]
    assert "error" in found[1].lower() and "lost" not in found[1]
