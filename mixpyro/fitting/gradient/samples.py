"""Samples of the rows, each larger than the one before, to begin a search for an optimum on."""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

# How much larger each sample is than the last, and all rows than the largest.
GROWTH = 4
N_SAMPLES = 3
# Fewer rows would say little of where the optimum is, and take as long to evaluate.
SMALLEST_SAMPLE = 1500


def growing_samples(data: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
    """Samples of the rows of ``data``, none where there are few; the last tensor, of weights, counted for all rows.

    The same rows each time, the smaller samples parts of the larger.
    """
    n_rows = len(data[0])
    sizes = [n_rows // GROWTH**power for power in range(N_SAMPLES, 0, -1)]
    sizes = [size for size in sizes if size >= SMALLEST_SAMPLE]
    order = torch.randperm(n_rows, generator=Generator().manual_seed(0)) if sizes else torch.empty(0)
    for size in sizes:
        rows = order[:size].to(data[0].device)
        *inputs, weights = (part[rows] for part in data)
        yield *inputs, weights * (n_rows / size)
