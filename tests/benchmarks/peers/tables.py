"""Read columns of the tables in tests/data; without ``tests.conftest``, which checks the types of every call."""

import csv
from pathlib import Path

import torch
from torch import Tensor

DATA = Path(__file__).parents[2] / "data"


def read_columns(name: str, *columns: str, **levels: tuple[str, ...]) -> dict[str, Tensor]:
    """Read columns of numbers [N], float64.

    Args:
        name: of the file.
        *columns: names of columns of numbers.
        **levels: name of a column of words = its words that count as one; others count as zero.
    """
    with (DATA / name).open() as file:
        rows = list(csv.DictReader(file))
    found = {column: [float(row[column]) for row in rows] for column in columns}
    found |= {column: [float(row[column] in words) for row in rows] for column, words in levels.items()}
    return {column: torch.tensor(values, dtype=torch.float64) for column, values in found.items()}
