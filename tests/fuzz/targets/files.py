"""Saving and loading."""

import random
import tempfile
from pathlib import Path
from typing import Any

import mixpyro
from tests.fuzz.call import Call
from tests.fuzz.made import Size, rows
from tests.fuzz.targets.fitted import QUICK, fitted


def _path() -> Path:
    """Return a path in a new folder."""
    return Path(tempfile.mkdtemp(prefix="mixpyro-fuzz-")) / "model.pt"


def save(rng: random.Random) -> Call:
    """A mixture, a gate or experts written to a file."""
    mixture = fitted(rng).result.mixture
    part: Any = rng.choice([mixture, mixture.gate, mixture.experts])
    return Call("save", mixpyro.save, {"part": part, "path": _path()}, owner=part)


def load(rng: random.Random) -> Call:
    """A file read."""
    path = _path()
    mixpyro.save(
        fitted(rng, gates=("dirichlet", "softmax", "tree"), banks=("linear", "poisson", "gaussian")).result.mixture,
        path,
    )
    return Call("load", mixpyro.load, {"path": path, "device": "cpu"})


def checkpoint(rng: random.Random) -> Call:
    """A fit with a checkpoint, that goes on from its own."""
    x, y = rows("linear", Size(2, 2, 24), seed=2)
    mixture = mixpyro.MixtureOfExperts(mixpyro.DirichletGate(2), mixpyro.LinearExperts(2, 2))
    given = {"mixture": mixture, "x": x, "y": y, **QUICK, "checkpoint": _path(), "checkpoint_seconds": 0.0}
    return Call("fit", mixpyro.fit, given, adopts=("mixture",), fixed=frozenset({"progress"}))


MAKERS = {"save": save, "load": load, "fit, checkpoint": checkpoint}
