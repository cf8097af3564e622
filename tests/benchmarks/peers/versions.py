"""Say what is installed, without importing it."""

import importlib.util
import platform as machine
from importlib.metadata import PackageNotFoundError, version

import torch

from tests.benchmarks.peers import r

# Packages whose module has another name.
DISTRIBUTIONS = {"sklearn": "scikit-learn"}


def missing(needs: tuple[str, ...]) -> str:
    """Return the names of what is not installed, joined; "" if nothing is missing."""
    return " and ".join(need.removeprefix("R:") for need in needs if not version_of(need))


def versions(needs: tuple[str, ...]) -> str:
    """Return the versions of what a contestant needs."""
    return ", ".join(filter(None, map(version_of, needs)))


def version_of(need: str) -> str:
    """Return the version of a package of Python, or of R as "R:name"; "" where it is missing."""
    if need.startswith("R:"):
        return r.version_of(need.removeprefix("R:")) or ""
    if importlib.util.find_spec(need) is None:
        return ""
    try:
        return version(DISTRIBUTIONS.get(need, need))
    except PackageNotFoundError:
        return "of unknown version"


def platform() -> dict[str, str]:
    """Return what else the figures depend on."""
    return {
        "Python": machine.python_version(),
        "PyTorch": torch.__version__,
        "threads": str(torch.get_num_threads()),
        "R": r.version_of("base") or "missing",
    }
