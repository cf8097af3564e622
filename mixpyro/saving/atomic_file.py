"""Files that are written completely or not at all, and are read without running code."""

import os
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from mixpyro import arguments
from mixpyro.arguments.signals import pass_on
from mixpyro.saving import archive, checksum, partial_files

Content = dict[str, Any]
Name = str | os.PathLike[str]


def write(path: Name, content: Content, *, kind: str, version: int) -> None:
    """Write tensors and plain values to a file, completely or not at all.

    After a crash at any moment, ``path`` has its old content or the new one, never a part of it. A file that is there
    keeps its mode and, where the system allows, its owner; a symbolic link is followed. Of a file with several names
    (hard links) the others keep the old content. What killed writers have left is removed.

    Args:
        path: of the file. An existing file is replaced.
        content: nested dicts and lists of tensors, numbers and strings. The keys ``kind`` and ``version`` are taken.
        kind: what the file holds; :func:`read` compares it.
        version: number of the file's format, at least 1.

    Raises:
        TypeError: if ``path`` is no path.
        FileNotFoundError: if its folder does not exist.
        OSError: if the file cannot be written, or the path is that of a folder or a device.
    """
    path = Path(os.path.realpath(arguments.path("path", path)))
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"`path` must be in a folder that exists; got {str(path)!r}. Make {str(path.parent)!r} first."
        )
    if path.exists() and not path.is_file():
        kind_of_error = IsADirectoryError if path.is_dir() else OSError
        raise kind_of_error(f"`path` must be a file; got {str(path)!r}, a folder or a device.")
    with partial_files.replacing(path) as file:
        _write({"kind": kind, "version": version, **content}, file)


def _write(content: Content, file: BinaryIO) -> None:
    """Write an archive and its checksum."""
    writer = checksum.ChecksummedWriter(file)
    try:
        # It needs no more of a file than `write` and `flush`.
        torch.save(content, writer)  # type: ignore[arg-type]
        writer.finish()
    except RuntimeError:
        # A full disk, or Ctrl-C in the middle of a write.
        if writer.error is not None:
            raise writer.error from None
        raise
    os.fsync(file.fileno())


def read(path: Name, *, kind: str, version: int, unchecked: int = 0) -> Content:
    """Read a file that :func:`write` wrote, and run no code that it may contain.

    Args:
        path: of the file.
        kind: what the file must hold.
        version: latest format that the caller understands.
        unchecked: latest format whose files may have no checksum; those of their records are compared in any case.

    Returns:
        The content, with its tensors on the CPU, and the keys ``kind`` and ``version``.

    Raises:
        TypeError: if ``path`` is no path.
        FileNotFoundError: if there is no such file.
        ValueError: if it is no file, damaged, of another kind, or of a later format.
    """
    path = arguments.path("path", path)
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        has_checksum = checksum.is_right(file, size)
        try:
            content = None if has_checksum is False else archive.content_of(file, size)
        except (
            *(ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, OverflowError),
            *(zipfile.BadZipFile, struct.error, EOFError, OSError),
        ) as error:
            pass_on(error)
            raise ValueError(f"`path` must be a file that mixpyro wrote; got {path!r}, unreadable: {error}.") from error
    if has_checksum is False:
        raise ValueError(f"`path` must be a file that mixpyro wrote; got {path!r}, unreadable: its checksum differs.")
    if not isinstance(content, dict) or content.get("kind") != kind:
        actual_kind = content.get("kind") if isinstance(content, dict) else None
        raise ValueError(f"`path` must be a {kind} of mixpyro; got {path!r}, of kind {str(actual_kind)[:50]!r}.")
    _check_version(path, content.get("version"), version)
    if not has_checksum and content["version"] > unchecked:
        raise ValueError(f"`path` must be a file that mixpyro wrote; got {path!r}, unreadable: it has no checksum.")
    return content


def _check_version(path: str, actual: object, version: int) -> None:
    """Raise if a file is of a later format than the caller understands, or of none."""
    if type(actual) is not int or not 1 <= actual <= version:
        raise ValueError(
            f"`path` must be of format {version} or earlier; got {path!r} of format {str(actual)[:50]}. Update mixpyro."
        )


def _opened(path: str) -> BinaryIO:
    """Open a file for reading. To open a pipe would wait for a writer, and to open a device may do something."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError(f"`path` must be a file; got {path!r}, a folder, a pipe or a device.")
        return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"`path` must be a file that exists; got {path!r}.") from None
