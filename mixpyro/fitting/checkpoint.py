"""Checkpoints: a fit that was killed at any moment goes on from its file."""

import copy
import dataclasses
import hashlib
import os
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from mixpyro import arguments
from mixpyro.arguments.signals import pass_on, without_interruption
from mixpyro.fitting.configuration import ConfigurationDigest, NotComparableError
from mixpyro.fitting.pieces import pieces_of
from mixpyro.fitting.restarts import Search
from mixpyro.fitting.rows_of_all import said_by_first
from mixpyro.fitting.search_state import restore, state_of
from mixpyro.saving import atomic_file

# Files of format 6 and earlier have no checksum.
KIND, VERSION, UNCHECKED = "checkpoint", 7, 6


class Checkpoint:
    """Store the state of a search in a file, at most once in so many seconds.

    Args:
        path: of the file.
        search: whose state it is. If the file exists, the search goes on where it was.
        seconds: least time between two writes; 0 for every iteration.

    Raises:
        TypeError: if the mixture or a start holds an object that cannot be compared with that of another process.
        ValueError: if the file is none of mixpyro's, or belongs to other data, another mixture or other options.
    """

    def __init__(self, path: str | os.PathLike[str], search: Search, *, seconds: float) -> None:
        self.path, self.search, self.seconds = Path(arguments.path("checkpoint", path)), search, seconds
        self.processes, self.written = search.processes, time.monotonic()
        # Of rank 0, as a start may know on which rank it is.
        self.settings = said_by_first(self.processes, lambda: settings_of(search))
        self.fingerprint, self.left = fingerprint(search, self.settings), ""
        self.warned, self.is_held, self.is_written = False, False, False
        self.state: dict[str, Any] = {}
        content = said_by_first(self.processes, self._read)
        if content is not None:
            self._resume(content)
        # At once, so that a path that cannot be written is known before the work and not after it.
        with arguments.renamed(path="checkpoint"):
            self.write()

    def _read(self) -> dict[str, Any] | None:
        """Return what is in the file; None if there is none."""
        if not self.path.exists():
            return None
        with arguments.renamed(path="checkpoint"):
            return atomic_file.read(self.path, kind=KIND, version=VERSION, unchecked=UNCHECKED)

    def _resume(self, content: dict[str, Any]) -> None:
        if content["version"] != VERSION:
            raise ValueError(
                f"`checkpoint` must be of format {VERSION}; got {str(self.path)!r} of format {content['version']}, "
                "written by another version of mixpyro. Remove the file to start anew."
            )
        if self.fingerprint not in (content.get("fingerprint"), content.get("left")):
            raise ValueError(
                f"`checkpoint` must belong to this fit; got {str(self.path)!r}, written for other data, "
                "another mixture or other options. Remove the file to start anew."
            )
        # The mixture may hold what the fit left in it when it ended the last time: its runs began otherwise.
        template = copy.deepcopy(self.search.mixture)
        try:
            without_interruption(lambda: template.load_state_dict(content["initial"]))
            self.search.begin_from(template)
            self.fingerprint = content["fingerprint"]
            restore(self.search, content["search"])
        # What a damaged file has may be anything.
        except Exception as error:
            pass_on(error)
            raise ValueError(
                f"`checkpoint` must be a file that mixpyro wrote; got {str(self.path)!r}, damaged: {str(error)[:200]}."
            ) from error

    def write_if_due(self) -> None:
        """Write if the last write is more than ``seconds`` ago."""
        if self.is_due() if self.processes is None else self.processes.due:
            self.write_or_warn()

    def is_due(self) -> bool:
        """Return whether the last write is more than ``seconds`` ago."""
        return time.monotonic() - self.written >= self.seconds

    def write_or_warn(self) -> None:
        """Write now; where that fails the fit goes on, with a warning the first time."""
        failure = ""
        try:
            self.write()
        except OSError as error:
            pass_on(error)
            failure = str(error)
        failure = said_by_first(self.processes, lambda: failure)
        if failure and not self.warned:
            caution = f"the checkpoint could not be written, and the fit goes on without: {failure}."
            warnings.warn(caution, RuntimeWarning, stacklevel=2)
        self.warned = self.warned or bool(failure)

    def write(self) -> None:
        """Write the state of the search to the file, as a whole or not at all."""
        if self.is_held and self.is_written:
            return
        # A search that was told to stop has counted its current runs as ended: keep the state before that.
        if not self.is_held and not (self.left and self.search.stopped):
            self.state = state_of(self.search)
        initial = self.search.template.state_dict()
        content = {"fingerprint": self.fingerprint, "left": self.left, "initial": initial, "search": self.state}
        if self.processes is None or self.processes.rank == 0:
            atomic_file.write(self.path, content, kind=KIND, version=VERSION)
        self.written, self.is_written = time.monotonic(), True

    def hold(self) -> None:
        """Let the file have the state of this moment from now on, until the end.

        What is done with the best runs after all have ended is done anew by a fit that goes on, from the same runs.
        """
        self.state, self.is_held, self.is_written = state_of(self.search), True, False

    def write_final(self) -> None:
        """Write now, with what the mixture is after the fit: a call with that mixture is the same fit."""
        self.is_held, self.is_written = self.is_held and self.search.stopped, False
        self.left = fingerprint(self.search, self.settings)
        self.write_or_warn()


def fingerprint(search: Search, settings: bytes) -> str:
    """Return a digest of what a fit is: its data, the mixture it begins with, its options.

    Args:
        search: of the fit.
        settings: digest of its options and starts, as they were when it began.

    Raises:
        TypeError: if the mixture holds an object that cannot be compared with that of another process.
    """
    digest = hashlib.sha256(settings)
    for part in (_digest_of("mixture", search.mixture), *_digests(search)):
        digest.update(part)
    return digest.hexdigest()


def settings_of(search: Search) -> bytes:
    """Return a digest of the options and the starts of a fit, with all that the starts read.

    Args:
        search: of the fit.

    Raises:
        TypeError: if a start holds an object that cannot be compared with that of another process.
    """
    numbers = search.n_restarts, search.n_candidates, search.seed
    return _digest_of("starts", (dataclasses.asdict(search.options), numbers, list(search.starts)))


def _digest_of(name: str, value: object) -> bytes:
    """Return the digest of an argument, or raise if there is none."""
    try:
        return ConfigurationDigest().of(value, name)
    except NotComparableError as error:
        raise TypeError(
            f"`checkpoint` must be None for what cannot be compared with that of another process; got {error}."
        ) from error


def _digests(search: Search) -> list[bytes]:
    """Return a digest of the rows of each block, of all processes."""
    found = []
    for _, table in pieces_of(search.table):
        digest = hashlib.sha256()
        start = table.start
        given = {"x": table.x, "y": table.y, "gate_x": table.gate_x, "weights": table.weights, "labels": table.labels}
        given |= {"start": start, "groups": None if table.segments is None else table.segments.sizes}
        for name, value in given.items():
            digest.update(f"{name}:{None if value is None else (value.dtype, *value.shape)}".encode())
            if isinstance(value, torch.Tensor):
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        found.append(digest.digest())
    blocks = search.table.blocks_of_all
    if search.processes is None or blocks is None:
        return found
    own = found if blocks.holds_any else []
    return [one for rank in search.processes.objects(own) for one in rank]
