"""A few hundred random calls of everything public have no fault, and nothing public is left out."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.fuzz.call import Call
from tests.fuzz.grid import case_of_grid, cells
from tests.fuzz.judge import judged
from tests.fuzz.odd_values import FURTHER_SIMPLE, SIMPLE
from tests.fuzz.selection import Selection
from tests.fuzz.surface import without_a_maker

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("bad_arguments")


def test_every_public_name_is_called() -> None:
    assert without_a_maker() == set()


def test_random_calls_have_no_fault() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--cases", "200", "--seconds", "120", "--seed", "0", "--jobs", "1"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stdout + found.stderr


def named(value: object) -> None:
    raise ValueError(f"`value` must be right; got {value!r}.")


def unnamed(value: object) -> None:
    raise ValueError("shapes differ")


def draws(value: object) -> None:
    torch.rand(3)
    raise ValueError("`value` must be right.")


def appends(value: list[int]) -> None:
    value.append(1)
    raise ValueError("`value` must be right.")


@pytest.mark.parametrize(
    ("function", "kind"), [(named, "clear"), (unnamed, "obscure"), (draws, "changed"), (appends, "changed")]
)
def test_the_judge_tells_faults_from_clear_errors(function: object, kind: str) -> None:
    call = Call("name", function, {"value": []}, replaced={"value": "odd"})  # type: ignore[arg-type]
    assert judged(call).kind == kind


def test_a_right_call_that_fails_and_a_wrong_result_are_wrong() -> None:
    assert judged(Call("name", named, {"value": 1})).kind == "wrong"
    assert judged(Call("name", lambda: 1, {}, check=lambda result, _: ["not two"])).kind == "wrong"
    assert judged(Call("name", lambda: 2, {})).kind == "right"


def test_a_call_that_hangs_is_ended_and_another_goes_on() -> None:
    """A worker that is out of time is replaced; the cases behind it are made all the same."""
    from tests.fuzz import workers

    found = dict(workers.outcomes(range(4), selection=Selection(0, "Groups"), seconds=60.0, jobs=1))
    assert sorted(found) == [0, 1, 2, 3]


def test_a_grid_replaces_every_argument_by_every_odd_value() -> None:
    found = cells(0, 1, "RobbinsMonro")
    assert {cell.argument for cell in found} == {"delay", "decay"}
    assert len(set(found)) == len(found) == 2 * (len(SIMPLE) + len(FURTHER_SIMPLE))
    call = case_of_grid(0, len(found) - 1, variants=1, only="RobbinsMonro")
    assert call.replaced == {"decay": [*FURTHER_SIMPLE][-1]}
    assert judged(call).kind == "clear"
