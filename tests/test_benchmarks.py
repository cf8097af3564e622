"""Benchmarks run at tiny sizes, so that they cannot rot; nothing here looks at the time."""

import pytest

from tests.benchmarks.speed.__main__ import measured
from tests.benchmarks.speed.harness import Row, as_table, fastest


def test_speed_benchmarks_run() -> None:
    for row in measured([], tiny=True):
        assert row.seconds > 0
        assert row.seconds_beside > 0


def test_sizes_are_arguments() -> None:
    (row,) = measured(["restarts"], tiny=True, given={"n_objects": 123, "n_components": 2})
    assert row.size == "N=123, d=10, K=2"


def test_none_is_begun_when_the_time_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert measured(["restarts", "gaussian"], tiny=True, seconds=-1.0) == []
    assert "restarts: left out, for the -1 seconds are over" in capsys.readouterr().out


@pytest.mark.parametrize(("wanted", "ratio", "reached"), [("<= 1.5", 2.0, False), (">= 0.5", 0.5, True)])
def test_a_row_says_whether_it_is_reached(wanted: str, ratio: float, reached: bool) -> None:
    row = Row("ours", "N = 1", 2.0, "theirs", 1.0, wanted)
    assert row.ratio == ratio
    assert row.reached == reached
    assert ("NOT REACHED" in as_table([row])) != reached


def test_functions_are_called_in_turn() -> None:
    called: list[int] = []
    seconds = fastest(lambda: called.append(0), lambda: called.append(1), repeats=2)
    assert called == [0, 1, 0, 1, 0, 1]
    assert all(0 < second < 1 for second in seconds)
