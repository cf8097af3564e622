"""Measure the memory of a fit: ``python -m tests.benchmarks.speed.memory FILE N D K [--mapped]`` prints MiB.

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
from tests.benchmarks.speed.harness import Sizes

# Rows that are drawn, and then written again and again.
CHUNK = 1_000_000


@contextmanager
def rows_in_a_file(sizes: Sizes) -> Iterator[Path]:
    """Write a temporary file of N rows, the same million repeated."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.bin"
        n_objects, n_features, n_components, _ = sizes
        table = np.memmap(path, dtype=np.float32, mode="w+", shape=(n_objects, n_features + 1))
        data = problem(min(n_objects, CHUNK), n_features, n_components)
        chunk = torch.cat([data.x, data.y.unsqueeze(1)], dim=1)
        for start in range(0, n_objects, CHUNK):
            table[start : start + CHUNK] = chunk[: n_objects - start].numpy()
        table.flush()
        yield path


def peak_mib(path: Path, sizes: Sizes, *, mapped: bool) -> float:
    """Return the peak memory of a fit with one restart, in MiB.

    Args:
        path: the file of rows.
        sizes: its sizes. Tiny ones are measured in this process, where earlier peaks count too.
        mapped: map the file instead of reading it. Then all memory of the process counts, mapped pages included;
            otherwise only what the fit adds to the data.
    """
    if sizes.tiny:
        return measured(path, sizes, mapped=mapped)
    arguments = [str(path), *map(str, sizes[:3]), *(["--mapped"] if mapped else [])]
    command = [sys.executable, "-m", "tests.benchmarks.speed.memory", *arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measured(path: Path, sizes: Sizes, *, mapped: bool) -> float:
    """Return what :func:`peak_mib` returns, measured in this process."""
    x, y = mapped_rows(path, sizes) if mapped else read_rows(path, sizes)
    before = 0.0 if mapped else _peak()
    k = sizes.n_components
    mixture = MixtureOfExperts(DirichletGate(k), LinearExperts(k, sizes.n_features))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        fit(mixture, x, y, n_restarts=1, max_iterations=3, progress=False)
    return max(1e-3, _peak() - before)


def mapped_rows(path: Path, sizes: Sizes) -> tuple[Tensor, Tensor]:
    """Return x [N, D] and y [N, 1] of a file as views of the mapped file."""
    shape = sizes.n_objects, sizes.n_features + 1
    table = torch.from_file(str(path), size=shape[0] * shape[1], dtype=torch.float32).view(shape)
    return table[:, :-1], table[:, -1:]


def read_rows(path: Path, sizes: Sizes) -> tuple[Tensor, Tensor]:
    """Return x [N, D] and y [N, 1] of a file, read into memory once."""
    table = torch.from_numpy(np.fromfile(path, dtype=np.float32).reshape(-1, sizes.n_features + 1))
    return table[:, :-1], table[:, -1:]


def _peak() -> float:
    """Return this process's peak memory in MiB; from /proc where there is one, as ru_maxrss includes the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) / 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("sizes", type=int, nargs=3)
    parser.add_argument("--mapped", action="store_true")
    given = parser.parse_args()
    print(measured(given.path, Sizes(*given.sizes), mapped=given.mapped))
