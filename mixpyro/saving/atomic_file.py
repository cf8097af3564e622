"""Files that are either whole or not there, and that load without running code."""

import os
import pickle
import threading
import zipfile
from pathlib import Path
from typing import Any

import torch

Content = dict[str, Any]


def write(path: str | os.PathLike[str], content: Content, *, kind: str, version: int) -> None:
    """Write tensors and plain values to ``path``: all of it, or on a crash at any moment nothing.

    Args:
        path: of the file; one that stands there is replaced.
        content: nested dicts and lists of tensors, numbers and strings.
        kind: what the file is, for :func:`read` to ask for.
        version: of its format.

    Raises:
        OSError: if it cannot be written.
    """
    path = Path(path)
    # Of this process and thread alone: two writers must not share a half-written file.
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        with partial.open("wb") as file:
            torch.save({"kind": kind, "version": version, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        # On one file system a rename is atomic: whoever looks sees the old file or the new one.
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read(path: str | os.PathLike[str], *, kind: str, version: int) -> Content:
    """Read what :func:`write` wrote, onto the CPU, running no code that the file may hold.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged, of another kind, or of a later version.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, zipfile.BadZipFile, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise ValueError(f"`path` must be a file that mixpyro wrote; got {os.fspath(path)!r}, unreadable.") from error
    if not isinstance(content, dict) or content.get("kind") != kind:
        found = content.get("kind") if isinstance(content, dict) else None
        raise ValueError(f"`path` must be a {kind} of mixpyro; got {os.fspath(path)!r}, of kind {found!r}.")
    found = content.get("version")
    if not isinstance(found, int) or found > version:
        raise ValueError(
            f"`path` must be of format {version} or earlier; got {os.fspath(path)!r} of format {found}. Update mixpyro."
        )
    return content
