"""Files that are written completely or not at all, and are read without running code."""

import os
import pickle
import threading
import zipfile
from pathlib import Path
from typing import Any

import torch

Content = dict[str, Any]


def write(path: str | os.PathLike[str], content: Content, *, kind: str, version: int) -> None:
    """Write tensors and plain values to a file, completely or not at all.

    After a crash at any moment, ``path`` has its old content or the new one, never a part of it.

    Args:
        path: of the file. An existing file is replaced.
        content: nested dicts and lists of tensors, numbers and strings. The keys ``kind`` and ``version`` are taken.
        kind: what the file holds; :func:`read` compares it.
        version: number of the file's format, at least 1.

    Raises:
        FileNotFoundError: if its folder does not exist.
        OSError: if the file cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"`path` must be in a folder that exists; got {str(path)!r}. Make {str(path.parent)!r} first."
        )
    # The name has the process and the thread in it, so that two writers never share a half-written file.
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        with partial.open("wb") as file:
            torch.save({"kind": kind, "version": version, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        # Within one file system a rename is atomic: a reader opens either the old file or the new one.
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read(path: str | os.PathLike[str], *, kind: str, version: int) -> Content:
    """Read a file that :func:`write` wrote, and run no code that it may contain.

    Args:
        path: of the file.
        kind: what the file must hold.
        version: latest format that the caller understands.

    Returns:
        The content, with its tensors on the CPU, and the keys ``kind`` and ``version``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, of another kind, or of a later format.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, zipfile.BadZipFile, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise ValueError(f"`path` must be a file that mixpyro wrote; got {os.fspath(path)!r}, unreadable.") from error
    if not isinstance(content, dict) or content.get("kind") != kind:
        actual_kind = content.get("kind") if isinstance(content, dict) else None
        raise ValueError(f"`path` must be a {kind} of mixpyro; got {os.fspath(path)!r}, of kind {actual_kind!r}.")
    actual_version = content.get("version")
    if not isinstance(actual_version, int) or actual_version > version:
        raise ValueError(
            f"`path` must be of format {version} or earlier; got {os.fspath(path)!r} of format {actual_version}. "
            "Update mixpyro."
        )
    return content
