"""Damaged files are refused with one clear error, whatever has happened to them."""

import random
from pathlib import Path

import pytest

from mixpyro import load
from mixpyro.saving.checksum import N_BYTES
from tests.conftest import DATA
from tests.saving.corrupted_files import KINDS, KindOfFile, outcome
from tests.saving.corruptions import ACCIDENTS, FORGERIES, archive_of, damaged, records_of, sealed

# Each reads a file hundreds of times.
pytestmark = pytest.mark.usefixtures("without_type_checks")


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
    path.write_bytes(sealed(archive_of(records_of(path.read_bytes()))))
    assert outcome(kind, path, wanted) == "equal"


def test_a_file_of_a_format_without_a_checksum_is_compared_with_those_of_its_records(tmp_path: Path) -> None:
    draw, path = random.Random(0), DATA / "saved_models" / "dirichlet_linear.model"
    kind = KindOfFile(lambda path, seed: None, lambda path: load(path).state_dict())
    wanted, found = kind.read(path), set[str]()
    for damage in ("flipped bit", "zeroed", "swapped blocks", "truncated"):
        for _ in range(20):
            (tmp_path / "damaged").write_bytes(damaged(damage, draw, path, path))
            found.add(outcome(kind, tmp_path / "damaged", wanted))
    # Some bytes of such a file say nothing: dates, and the space between records.
    assert found <= {"refused", "equal"}


def test_a_checksum_cannot_be_left_out(tmp_path: Path) -> None:
    kind = KINDS["mixture, float64"]
    kind.write(tmp_path / "file", 0)
    whole = (tmp_path / "file").read_bytes()
    for without in (whole[:-N_BYTES], whole[: -N_BYTES - 2] + b"\0\0", archive_of(records_of(whole))):
        (tmp_path / "file").write_bytes(without)
        with pytest.raises(ValueError, match=r"`path` must be a file that mixpyro wrote; got '.*file', unreadable: "):
            load(tmp_path / "file")
