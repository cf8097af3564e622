"""Damaged files are refused with one clear error, whatever has happened to them."""

import random
from pathlib import Path

import pytest

from tests.saving.corrupted_files import KINDS, outcome
from tests.saving.corruptions import ACCIDENTS, FORGERIES, damaged


@pytest.mark.parametrize("name", ["mixture, float64", "gate, float32", "estimates, float64", "checkpoint"])
def test_no_damage_is_read_as_if_nothing_were(name: str, tmp_path: Path) -> None:
    """``tests.benchmarks.corruptions`` tries thousands of each kind of file."""
    kind, draw, path = KINDS[name], random.Random(0), tmp_path / "file"
    kind.write(path, 0)
    kind.write(tmp_path / "other", 1)
    wanted = kind.read(path)
    for damage in (*ACCIDENTS, *FORGERIES):
        for _ in range(8):
            (tmp_path / "damaged").write_bytes(damaged(damage, draw, path, tmp_path / "other"))
            found = outcome(kind, tmp_path / "damaged", wanted)
            allowed = ("refused",) if damage in ACCIDENTS else ("refused", "equal", "silent")
            assert found in allowed, damage
