"""Fits on many processes that end before their end: all ranks end then, and say why."""

from pathlib import Path

import pytest
import torch

from tests.distributed import ending_cases as endings
from tests.distributed import fault_cases, workers
from tests.distributed.conftest import Ask
from tests.distributed.test_fit import assert_equal

MODULE = endings.__name__


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("nan", "`y` must be finite"),
        ("seed", "`seed` is 0 on rank 0, 7 on rank 1"),
        ("start", "rank 1 raised OSError: the disk is full"),
        ("groups", "got group 19 on ranks 0 and 1"),
    ],
)
def test_an_error_on_one_rank_is_raised_on_all(what: str, said: str, ask: Ask) -> None:
    found = ask("with_error", 2, what, module=MODULE)
    assert said in found[0]
    assert "rank 1 of 2" in found[1]
    # The ranks can go on together afterwards.
    assert ask("with_error", 2, "nothing", module=MODULE) == ["no error", "no error"]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("type", "rank 1 raised TypeError: `progress` must be True or False"),
        ("mixture", "rank 1 raised TypeError: `mixture` must be a mixture"),
        ("dtype", "`x` is of shape [N, 2] and torch.float64 on rank 0, of shape [N, 2] and torch.float32 on rank 1"),
        ("start", "`initial_responsibilities` is None on rank 0"),
        ("own start", "all ranks must compute the same numbers"),
        ("levels", "`names and levels of columns` is"),
        ("reader", "rank 1 raised OSError: the file is gone"),
        ("formula", "`fit_formula` must be called in one process"),
        ("tree", "`grow_tree` must be called in one process"),
        ("groups", "no error"),
    ],
)
def test_what_differs_on_one_rank_is_said_on_all(what: str, said: str, ask: Ask) -> None:
    found = ask("with_fault", 2, what, module=fault_cases.__name__)
    assert said in found[0]
    assert "error" in found[1].lower() and "lost" not in found[1]


def test_control_c_within_an_exchange_comes_after_it(ask: Ask) -> None:
    (first, of_other), (second, of_own) = ask("interrupted_exchange", 2, module=MODULE)
    assert first == [[0.0], [1.0, 1.0]]
    assert second == []
    assert "rank 1 raised KeyboardInterrupt" in of_other
    assert "rank 1 of 2" in of_own


def test_a_progress_bar_that_cannot_be_written_ends_all_ranks(ask: Ask) -> None:
    found = ask("with_full_disk", 2, module=MODULE)
    assert "OSError: no space left on device" in found[0]
    assert "rank 0 raised OSError: no space left on device" in found[1]


@pytest.mark.parametrize("asked", [0, 1])
def test_control_c_on_any_rank_ends_all_with_one_result(asked: int, ask: Ask) -> None:
    found = ask("stopped", 3, asked, module=MODULE)
    assert [interrupted for interrupted, _ in found] == [True] * 3
    first = found[0][1]
    for _, one in found:
        assert one["traces"] == first["traces"]
        assert all(torch.equal(value, first["state"][name]) for name, value in one["state"].items())


def test_a_killed_rank_ends_all_and_the_fit_goes_on_elsewhere(ask: Ask, tmp_path: Path) -> None:
    name, path, untouched = "object dirichlet, linear", tmp_path / "checkpoint", tmp_path / "untouched"
    assert workers.ended(endings.killed, 2, str(path), 2, name) == [0, -9]
    assert "has lost rank 1" in path.with_suffix(".0").read_text()
    plain = endings.resumed(0, 1, None, str(untouched), name)
    assert_equal(ask("resumed", 3, str(path), name, module=MODULE), plain)


def test_each_failure_names_the_ranks_that_are_lost_in_it(tmp_path: Path) -> None:
    path = tmp_path / "said"
    assert workers.ended(endings.lost_twice, 3, str(path)) == [0, 0, -9]
    for rank in (0, 1):
        late, dead = (path.with_suffix(f".{what}.{rank}").read_text() for what in ("late", "dead"))
        assert "has lost another rank, which died, did not make the same call, or did not answer within" in late
        assert f"rank {rank} has lost rank 2, which" in dead
