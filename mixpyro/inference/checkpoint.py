"""A fit that may be killed at any moment, and goes on."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from mixpyro import files
from mixpyro.inference.search import Search

KIND, VERSION = "checkpoint", 1


class Checkpoint:
    """The state of a search in a file, written at most every so many seconds.

    Args:
        path: of the file.
        search: whose state it is. If the file exists, the search is put where it stood.
        seconds: between two writes, at least; 0 for every iteration.

    Raises:
        ValueError: if the file is none of mixpyro's, or belongs to other data, another mixture or other options.
    """

    def __init__(self, path: str | os.PathLike[str], search: Search, *, seconds: float) -> None:
        self.path, self.search, self.seconds = Path(path), search, seconds
        self.fingerprint = fingerprint(search)
        self.written = time.monotonic()
        if self.path.exists():
            self._resume()

    def _resume(self) -> None:
        content = files.read(self.path, kind=KIND, version=VERSION)
        if content["fingerprint"] != self.fingerprint:
            raise ValueError(
                f"`checkpoint` must belong to this fit; got {str(self.path)!r}, written for other data, "
                "another mixture or other options. Remove the file to start anew."
            )
        self.search.restore(content["search"])

    def write_if_due(self) -> None:
        """Write if the last write is long enough ago."""
        if time.monotonic() - self.written >= self.seconds:
            self.write()

    def write(self) -> None:
        """Write now."""
        content = {"fingerprint": self.fingerprint, "search": self.search.state()}
        files.write(self.path, content, kind=KIND, version=VERSION)
        self.written = time.monotonic()


def fingerprint(search: Search) -> str:
    """What a fit is: its data, the mixture it begins with, its options."""
    digest = hashlib.sha256()
    for part in _parts(search):
        digest.update(part)
    return digest.hexdigest()


def _parts(search: Search) -> Iterator[bytes]:
    starts = [getattr(start, "__qualname__", type(start).__qualname__) for start in search.starts]
    settings = search.options, search.n_restarts, search.n_candidates, search.seed, starts
    yield repr(settings).encode()
    for module in search.mixture.modules():
        plain = {name: v for name, v in vars(module).items() if isinstance(v, bool | int | float | str)}
        yield repr((type(module).__qualname__, plain)).encode()
    given = {"x": search.data.x, "y": search.data.y, "gate_x": search.data.gate_x, "weights": search.data.weights}
    given |= {f"start {i}": getattr(start, "responsibilities", None) for i, start in enumerate(search.starts)}
    for name, value in (*given.items(), *search.mixture.state_dict().items()):
        yield f"{name}:{None if value is None else (value.dtype, *value.shape)}".encode()
        if isinstance(value, torch.Tensor):
            yield value.detach().cpu().contiguous().numpy().tobytes()
