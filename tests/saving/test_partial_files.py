"""What a write leaves of the file that was there, and what killed writers leave."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mixpyro.saving import atomic_file, partial_files

CONTENT = {"a": torch.arange(5.0)}


def write(path: Path) -> None:
    """Write a small file."""
    atomic_file.write(path, CONTENT, kind="thing", version=1)


def is_readable(path: Path) -> bool:
    """Whether a file has the content."""
    return torch.equal(atomic_file.read(path, kind="thing", version=1)["a"], CONTENT["a"])


posix = pytest.mark.skipif(os.name != "posix", reason="there are no modes and links of this kind here")


@posix
def test_an_existing_file_keeps_its_mode_and_a_new_one_follows_the_mask(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write(tmp_path / "new")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    for mode in (0o600, 0o644, 0o666, 0o444):
        (tmp_path / "old").touch()
        (tmp_path / "old").chmod(mode)
        write(tmp_path / "old")
        assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == mode
        assert is_readable(tmp_path / "old")


@posix
def test_symbolic_links_are_followed_and_other_names_keep_the_old_content(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "file")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert is_readable(tmp_path / "folder" / "file")
    (tmp_path / "old").write_text("old")
    os.link(tmp_path / "old", tmp_path / "name")
    write(tmp_path / "old")
    assert (tmp_path / "name").read_text() == "old"
    assert is_readable(tmp_path / "old")


@posix
def test_a_link_in_the_place_of_the_partial_file_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can guess the name; even so, nothing is written through a link."""
    monkeypatch.setattr("secrets.token_hex", lambda size: "0" * 2 * size)
    (tmp_path / "victim").write_text("victim")
    name = f"file.{partial_files._computer()}-{os.getpid()}-{'0' * 16}.partial"
    (tmp_path / name).symlink_to(tmp_path / "victim")
    partial_files._written.add(name)
    with pytest.raises(FileExistsError):
        write(tmp_path / "file")
    assert (tmp_path / "victim").read_text() == "victim"


KILLED = """
import os, signal, sys, torch
from pathlib import Path
from mixpyro.saving import partial_files
for _ in range(2):
    if (child := os.fork()) == 0:
        with partial_files.replacing(Path(sys.argv[1])) as file:
            file.write(b"part")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
"""


@posix
def test_what_a_killed_writer_has_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    name = "a name that is longer than those of most files, " * 4
    subprocess.run([sys.executable, "-W", "ignore", "-c", KILLED, str(tmp_path / name)], check=True)
    left = [path.name for path in tmp_path.iterdir()]
    # The second one has removed what the first has left.
    assert len(left) == 1
    foreign = tmp_path / left[0].replace(partial_files._computer(), "0" * 8)
    foreign.touch()
    write(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, foreign.name])
    # Of another computer nobody knows whether the writer lives; after a day it does not.
    os.utime(foreign, (0, time.time() - 2 * partial_files.OLD))
    write(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_ctrl_c_in_a_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "file")

    class Interrupted:
        """A digest during whose update Ctrl-C comes."""

        def __init__(self) -> None:
            self.n_bytes = 0

        def update(self, data: bytes) -> None:
            self.n_bytes += len(data)
            if self.n_bytes > 2000:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("mixpyro.saving.checksum.hashlib", SimpleNamespace(sha256=Interrupted))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # A shell's background jobs ignore it.
    try:
        with pytest.raises(KeyboardInterrupt):
            atomic_file.write(tmp_path / "file", {"a": torch.zeros(100_000)}, kind="thing", version=1)
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert is_readable(tmp_path / "file")


FULL = """
import resource, signal, sys, torch
from mixpyro.saving import atomic_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in (0, 100, 4096, 65536):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
    try:
        atomic_file.write(sys.argv[1], {"a": torch.zeros(20_000)}, kind="thing", version=1)
    except OSError as error:
        sys.stderr.write(f"{limit} {error}\\n")
"""


@posix
def test_a_full_disk_is_an_operating_system_error(tmp_path: Path) -> None:
    write(tmp_path / "file")
    command = [sys.executable, "-c", FULL, str(tmp_path / "file")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["0", "100", "4096", "65536"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert is_readable(tmp_path / "file")
