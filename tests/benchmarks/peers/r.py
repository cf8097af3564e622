"""Run a script of R where Rscript is, and read back what it prints."""

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

# A script prints lines such as "@ seconds 1.25": a name, then numbers.
MARK = "@"


@functools.cache
def version_of(package: str) -> str | None:
    """Return the version of an R package, or None where R or the package is missing."""
    if shutil.which("Rscript") is None:
        return None
    command = f'cat(tryCatch(as.character(packageVersion("{package}")), error = function(e) ""))'
    try:
        found = subprocess.run(["Rscript", "-e", command], capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return None
    return found.stdout.strip() or None


def results(script: str, table: Mapping[str, Tensor], *, seconds: float) -> dict[str, list[float]]:
    """Run a script that finds ``data``, a frame with the columns of a table; return the numbers of each marked line.

    Raises:
        TimeoutError: after so many seconds.
        RuntimeError: if R ends with an error.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "data.csv")
        columns = torch.stack([column.double().flatten() for column in table.values()], 1).tolist()
        lines = [",".join(table), *(",".join(f"{value:.17g}" for value in row) for row in columns)]
        path.write_text("\n".join(lines) + "\n")
        file = Path(folder, "script.R")
        file.write_text(f'data <- read.csv("{path.as_posix()}")\n{script}')
        return marked(finished(file, seconds))


def finished(file: Path, seconds: float) -> str:
    """Return what a script prints."""
    try:
        done = subprocess.run(["Rscript", str(file)], capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"not finished after {seconds:g} s") from None
    if done.returncode:
        raise RuntimeError(f"R: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'no message'}")
    return done.stdout


def marked(text: str) -> dict[str, list[float]]:
    """Return the numbers of each marked line; NA is nan."""
    found = {}
    for line in text.splitlines():
        if line.startswith(MARK):
            name, *values = line[len(MARK) :].split()
            found[name] = [float("nan") if value in ("NA", "NaN") else float(value) for value in values]
    return found
