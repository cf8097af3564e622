"""Time a row from 10⁵ rows to 10⁷, the last from a file that is mapped, and the memory of a whole fit to it.

All that grows with N is the data, the responsibilities (K numbers a row, of each start that is being tried), and what
one start draws: everything else is done in blocks of rows.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from tests.benchmarks.speed.hand_written import Ours, problem
from tests.benchmarks.speed.harness import Row, fastest
from tests.benchmarks.speed.memory import D, K, mapped, peak_mib

CHUNK = 1_000_000


def rows(*, tiny: bool) -> Iterator[Row]:
    """Nanoseconds a row beside those at the smallest N; MiB."""
    few, some, many = (200, 400, 800) if tiny else (100_000, 1_000_000, 10_000_000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.bin"
        write_rows(path, many)
        problems = [Ours(*mapped(path, n_objects), K) for n_objects in (few, some, many)]
        seconds = fastest(*(one.iterate for one in problems), repeats=1 if tiny else 3)
        of_few = seconds[0] / few
        for n_objects, taken in ((some, seconds[1]), (many, seconds[2])):
            size = f"N={n_objects}, d={D}, K={K}"
            yield Row("an iteration, a row", size, taken / n_objects, f"N={few}", of_few, "<= 1.2")
        del problems
        peak = peak_mib(many, apart=not tiny, path=path)
        yield Row("fit to a mapped file, peak MiB", size, peak, "allowed", 4096.0, "<= 1")


def write_rows(path: Path, n_objects: int) -> None:
    """Float32 rows [x, y] that :func:`mapped` reads."""
    table = np.memmap(path, dtype=np.float32, mode="w+", shape=(n_objects, D + 1))
    chunk = torch.cat([part.reshape(min(n_objects, CHUNK), -1) for part in problem(min(n_objects, CHUNK), D, K)], dim=1)
    for start in range(0, n_objects, CHUNK):
        table[start : start + CHUNK] = chunk[: n_objects - start].numpy()
    table.flush()
