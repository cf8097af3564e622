"""What memory a fit takes: ``python -m tests.benchmarks.speed.memory FILE N [--mapped]`` prints MiB.

FILE holds float32 rows [x, y], as :func:`rows_in_a_file` writes them.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit
from tests.benchmarks.speed.hand_written import problem

D, K = 10, 8
CHUNK = 1_000_000


@contextmanager
def rows_in_a_file(n_objects: int) -> Iterator[Path]:
    """A file of so many rows, those of a million again and again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.bin"
        table = np.memmap(path, dtype=np.float32, mode="w+", shape=(n_objects, D + 1))
        data = problem(min(n_objects, CHUNK), D, K)
        chunk = torch.cat([data.x, data.y.unsqueeze(1)], dim=1)
        for start in range(0, n_objects, CHUNK):
            table[start : start + CHUNK] = chunk[: n_objects - start].numpy()
        table.flush()
        yield path


def peak_mib(path: Path, n_objects: int, *, mapped: bool, apart: bool) -> float:
    """The most that one restart of a fit adds to what the process has with the data.

    Args:
        path: of the rows.
        n_objects: how many.
        mapped: map the file and do not read it; then all that the process has is counted, the mapped pages too.
        apart: in a process of its own, as a figure needs.
    """
    if not apart:
        return measured(path, n_objects, mapped=mapped)
    arguments = [str(path), str(n_objects), *(["--mapped"] if mapped else [])]
    command = [sys.executable, "-m", "tests.benchmarks.speed.memory", *arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measured(path: Path, n_objects: int, *, mapped: bool) -> float:
    """MiB, in this process."""
    x, y = mapped_rows(path, n_objects) if mapped else read_rows(path)
    before = 0.0 if mapped else _peak()
    mixture = MixtureOfExperts(DirichletGate(K), LinearExperts(K, D))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        fit(mixture, x, y, n_restarts=1, max_iterations=3, progress=False)
    return max(1e-3, _peak() - before)


def mapped_rows(path: Path, n_objects: int) -> tuple[Tensor, Tensor]:
    """Rows of a file that stay there, as x [N, D] and y [N, 1]."""
    table = torch.from_file(str(path), size=n_objects * (D + 1), dtype=torch.float32).view(n_objects, D + 1)
    return table[:, :D], table[:, D:]


def read_rows(path: Path) -> tuple[Tensor, Tensor]:
    """The same, in memory, without a copy that would count."""
    table = torch.from_numpy(np.fromfile(path, dtype=np.float32).reshape(-1, D + 1))
    return table[:, :D], table[:, D:]


def _peak() -> float:
    """MiB; by Linux's own account, for ru_maxrss begins with what the parent had."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) / 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("n_objects", type=int)
    parser.add_argument("--mapped", action="store_true")
    given = parser.parse_args()
    print(measured(given.path, given.n_objects, mapped=given.mapped))
