"""Files that take the place of others once they are complete."""

import hashlib
import os
import platform
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

# Characters of the name of the file that the name of the partial one begins with, and of the code of a computer.
N_CHARACTERS, N_CODE = 40, 8
# Seconds after which a partial file of any computer is left by a writer that is no more: one day.
OLD = 86400.0
# Names of the partial files that this process writes at the moment.
_written: set[str] = set()


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file, which replaces another one when the block is left without an error.

    Args:
        path: of the other one, no symbolic link. It may not exist yet. Its mode and owner are kept.
    """
    remove_left_over(path)
    # A name that nobody can guess, in which nobody can have put a link. It says who writes.
    partial = path.with_name(f"{_prefix(path)}.{_computer()}-{os.getpid()}-{secrets.token_hex(8)}.partial")
    _written.add(partial.name)
    try:
        with _created(partial) as file:
            _keep_mode(path, file)
            yield file
        # Within one file system a rename is atomic: a reader opens either the old file or the new one.
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
        _written.discard(partial.name)


def _created(partial: Path) -> BinaryIO:
    """Create a file that must not exist yet, and open it for writing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(partial, flags, 0o666), "wb")


def _keep_mode(path: Path, file: BinaryIO) -> None:
    """Give a new file the mode and the owner of the one that it shall replace, as far as the system allows."""
    with suppress(FileNotFoundError, PermissionError):
        known = path.stat()
        if hasattr(os, "fchmod"):
            os.fchmod(file.fileno(), known.st_mode & 0o7777)
        if hasattr(os, "fchown") and (known.st_uid, known.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(file.fileno(), known.st_uid, known.st_gid)


def remove_left_over(path: Path) -> None:
    """Remove partial files of a path whose writers were killed.

    Args:
        path: that they should have replaced.
    """
    form = re.compile(rf"{re.escape(_prefix(path))}\.([0-9a-f]{{{N_CODE}}})-([0-9]{{1,10}})-[0-9a-f]{{16}}\.partial")
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if (match := form.fullmatch(entry.name)) and entry.name not in _written:
                with suppress(OSError):
                    if _is_left(match[1], int(match[2]), entry.stat(follow_symlinks=False).st_mtime):
                        os.unlink(entry.path)


def _is_left(computer: str, process: int, seconds: float) -> bool:
    """Return whether nobody writes a partial file any more."""
    if time.time() - seconds > OLD:
        return True
    if computer != _computer() or os.name != "posix":
        return False
    if process == os.getpid():
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass
    return False


def _prefix(path: Path) -> str:
    """Return the beginning of the names of the partial files of a path, short enough for any file system."""
    code = hashlib.sha256(path.name.encode(errors="surrogateescape")).hexdigest()[:N_CODE]
    return path.name if len(path.name) <= N_CHARACTERS else f"{path.name[:N_CHARACTERS]}.{code}"


def _computer() -> str:
    """Return a code of this computer, and of the container in it: each counts its processes by itself."""
    try:
        container = os.readlink("/proc/self/ns/pid")
    except OSError:
        container = ""
    return hashlib.sha256(f"{platform.node()} {container}".encode(errors="replace")).hexdigest()[:N_CODE]
