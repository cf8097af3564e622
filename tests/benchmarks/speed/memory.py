"""What memory a fit takes beside its data: ``python -m tests.benchmarks.speed.memory N [file]`` prints MiB."""

import resource
import subprocess
import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit
from tests.benchmarks.speed.hand_written import problem

D, K = 10, 8


def peak_mib(n_objects: int, *, apart: bool, path: Path | None = None) -> float:
    """The most that one restart of a fit adds to what the process has with the data, or with a file all that it has.

    Args:
        n_objects: rows.
        apart: in a process of its own, as a figure needs.
        path: a file of float32 rows [x, y], to be mapped and not read.
    """
    if not apart:
        return measured(n_objects, path)
    arguments = [str(n_objects), *([] if path is None else [str(path)])]
    command = [sys.executable, "-m", "tests.benchmarks.speed.memory", *arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measured(n_objects: int, path: Path | None) -> float:
    """MiB, in this process."""
    x, y = problem(n_objects, D, K) if path is None else mapped(path, n_objects)
    before = _peak() if path is None else 0.0
    mixture = MixtureOfExperts(DirichletGate(K), LinearExperts(K, D))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        fit(mixture, x, y, n_restarts=1, max_iterations=3, progress=False)
    return max(1e-3, _peak() - before)


def mapped(path: Path, n_objects: int) -> tuple[Tensor, Tensor]:
    """Rows of a file, as x [N, D] and y [N, 1]."""
    table = torch.from_file(str(path), size=n_objects * (D + 1), dtype=torch.float32).view(n_objects, D + 1)
    return table[:, :D], table[:, D:]


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


if __name__ == "__main__":
    print(measured(int(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
