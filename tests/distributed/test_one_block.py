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


@pytest.mark.parametrize("n_ranks", [2, 3, 4])
def test_random_effects_are_fitted_in_blocks_of_groups(n_ranks: int, ask: Ask) -> None:
    name = "dirichlet, random effects with groups"
    plain = cases.fitted(0, 1, None, name, SMALL)
    assert_equal(ask("fitted", n_ranks, name, SMALL, module=MODULE), plain)


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
