"""Fits on one to four processes have the same digits, and end together."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mixpyro.distributed import blocks
from tests.distributed import cases
from tests.distributed.conftest import Ask

EXAMPLE = Path(__file__).parents[2] / "examples" / "distributed_fit.py"
CASES = [
    *cases.MIXTURES,
    *(f"dirichlet, linear with {what}" for what in ("weights", "observed", "groups", "missing", "given start")),
    "object dirichlet, linear with given start",
    "dirichlet, gaussian with groups and weights",
]
# Cases that are fitted on every number of processes.
IN_FULL = ("dirichlet, linear", "dirichlet, linear with groups", "softmax, poisson")


def assert_equal(found: list[dict[str, Any]], plain: dict[str, Any]) -> None:
    """Assert that all ranks have found what one process finds, to the last digit."""
    for one in found:
        for name in ("traces", "optima", "cautions", "n_objects", "n_rows"):
            assert one[name] == plain[name], name
        assert all(torch.equal(value, plain["state"][name]) for name, value in one["state"].items())
    assert torch.equal(torch.cat([one["shares"] for one in found]), plain["shares"])
    if plain["objects"] is not None:
        assert torch.equal(torch.cat([one["objects"] for one in found]), plain["objects"])


@pytest.mark.parametrize("name", CASES)
def test_digits_are_those_of_one_process(name: str, ask: Ask) -> None:
    plain = cases.compared(cases.fitted(name, 0, 1))
    # Of three ranks one has no rows, and another's are cut within a block.
    for n_ranks in (1, 2, 3, 4) if name in IN_FULL else (3,):
        assert_equal(ask("of_case", n_ranks, name), plain)


def test_reports_of_a_result_are_of_all_rows_or_refused(ask: Ask) -> None:
    plain = cases.fitted("sticks, gaussian", 0, 1)
    for one in ask("reported", 3):
        assert len(one["said"]) == 3
        for words in one["said"].values():
            assert "got one of 3 processes" in words and "the same `checkpoint`" in words
        assert torch.allclose(one["counts"], plain.counts, rtol=1e-12)
        assert one["kept"] == [plain.n_used] * 3
        assert one["saved"]
        assert "150 rows" in one["summary"]


def test_the_example_runs_on_two_processes() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(EXAMPLE)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    bounds = re.findall(r"(-\d+\.\d+) nats", run.stdout)
    assert len(bounds) == 2 and len(set(bounds)) == 1


def test_blocks_cover_all_objects() -> None:
    for counts in ([0, 0, 100], [31, 1, 68], [100], [10, 0, 90]):
        first, kept, moves = blocks.held(counts, 32)
        assert sum(kept) == 100
        assert [start for start, n in zip(first, kept, strict=True) if n and start % 32] == []
        assert all(move.n_objects > 0 for move in moves)


def test_a_shard_of_one_process_is_all_rows() -> None:
    assert blocks.shard(10**6) == slice(0, 10**6)


def test_a_sum_is_added_in_the_order_of_blocks() -> None:
    parts = [[torch.tensor([10.0**power, -1.0])] for power in (16, 0, 0)]
    (found,) = blocks.Blocks(1, 3, 0, 3).total(parts)
    expected: Tensor = (parts[0][0] + parts[1][0]) + parts[2][0]
    assert torch.equal(found, expected)
