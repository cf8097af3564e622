"""Files that are written completely or not at all."""

import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit
from mixpyro.saving import atomic_file


def test_read_returns_what_was_written(tmp_path: Path) -> None:
    content = {"a": [1, 2.5, "three", None], "b": {"c": torch.arange(3.0)}}
    atomic_file.write(tmp_path / "file", content, kind="thing", version=1)
    back = atomic_file.read(tmp_path / "file", kind="thing", version=2)
    assert back["a"] == content["a"]
    assert torch.equal(back["b"]["c"], torch.arange(3.0))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_views_and_empty_parts_of_tensors_are_read(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(2, 3, 4)
    views = [
        whole[1],
        whole.mT,
        whole[:, 1:2],
        whole[:, :0],
        torch.empty(3, 2, 0)[2],
        whole[:1, :1, :1].expand(5, 1, 2),
    ]
    views += [torch.tensor(2.5), torch.tensor([True, False]), torch.arange(3), torch.ones(2).bfloat16(), whole.half()]
    atomic_file.write(tmp_path / "file", {"a": views}, kind="thing", version=1)
    back = atomic_file.read(tmp_path / "file", kind="thing", version=1)["a"]
    by_torch = torch.load(tmp_path / "file", weights_only=True)["a"]
    for found, other, wanted in zip(back, by_torch, views, strict=True):
        assert found.dtype == wanted.dtype
        assert torch.equal(found, wanted)
        assert torch.equal(other, wanted)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    atomic_file.write(tmp_path / "file", {"a": 1}, kind="thing", version=1)
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        atomic_file.write(tmp_path / "file", {"a": lambda: None}, kind="thing", version=1)
    assert atomic_file.read(tmp_path / "file", kind="thing", version=1)["a"] == 1


def test_the_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"`path` must be in a folder that exists; got .*'.*nowhere' first"):
        atomic_file.write(tmp_path / "nowhere" / "file", {}, kind="thing", version=1)


def test_a_file_truncated_at_any_length_is_refused(tmp_path: Path) -> None:
    atomic_file.write(tmp_path / "complete", {"a": torch.arange(100.0)}, kind="thing", version=1)
    complete = (tmp_path / "complete").read_bytes()
    for length in range(0, len(complete), 97):
        (tmp_path / "part").write_bytes(complete[:length])
        with pytest.raises(ValueError, match=r"`path` must be a file that mixpyro wrote; got '.*part', unreadable"):
            atomic_file.read(tmp_path / "part", kind="thing", version=1)


class CodeInPickle:
    """Runs code when a pickle with it is loaded without restrictions."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("created"),)


def test_read_runs_no_code_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"kind": "thing", "version": 1, "a": CodeInPickle()}, "file")
    with pytest.raises(ValueError, match="`path` must be a file that mixpyro wrote"):
        atomic_file.read("file", kind="thing", version=1)
    assert not Path("created").exists()


def test_other_kinds_and_later_formats_are_refused(tmp_path: Path) -> None:
    atomic_file.write(tmp_path / "file", {}, kind="thing", version=3)
    with pytest.raises(ValueError, match=r"`path` must be a mixture of mixpyro; got .* of kind 'thing'"):
        atomic_file.read(tmp_path / "file", kind="mixture", version=3)
    with pytest.raises(ValueError, match=r"`path` must be of format 2 or earlier; got .* of format 3. Update mixpyro"):
        atomic_file.read(tmp_path / "file", kind="thing", version=2)
    with zipfile.ZipFile(tmp_path / "other", "w") as archive:
        archive.writestr("data", "not a file of mixpyro")
    with pytest.raises(ValueError, match="unreadable"):
        atomic_file.read(tmp_path / "other", kind="thing", version=2)
    with pytest.raises(FileNotFoundError):
        atomic_file.read(tmp_path / "none", kind="thing", version=2)


def test_concurrent_writers_leave_one_complete_file(tmp_path: Path) -> None:
    def write(number: int) -> None:
        for _ in range(20):
            atomic_file.write(tmp_path / "file", {"a": torch.full((2000,), float(number))}, kind="thing", version=1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(atomic_file.read(tmp_path / "file", kind="thing", version=1)["a"].unique()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_paths_that_are_none_are_named(tmp_path: Path) -> None:
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    for path in ("a" * 5000, circle, "\ud800", "", "a\0"):
        with pytest.raises(ValueError, match=r"^`path` must be the path of a file"):
            atomic_file.write(path, {}, kind="test", version=1)
        with pytest.raises(ValueError, match=r"^`path` must be the path of a file"):
            atomic_file.read(path, kind="test", version=1)
    with pytest.raises(FileNotFoundError, match=r"^`path` must"):
        atomic_file.read("/dev/null/a", kind="test", version=1)


@pytest.mark.parametrize("path", ["a" * 5000, "/dev/null/a", "/nowhere/a", "\ud800"])
def test_a_checkpoint_is_named_as_such(path: str) -> None:
    x = torch.arange(6.0, dtype=torch.float64).unsqueeze(1)
    with pytest.raises((ValueError, OSError), match=r"^`checkpoint` must"):
        fit(MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)), x, x[:, 0], checkpoint=path, progress=False)
