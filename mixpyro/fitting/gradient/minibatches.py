"""The minibatches of one pass over the data, as PyTorch's DataLoader draws them."""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

# Batches whose rows are gathered in one go: a gather costs as much for one batch as for several.
N_GATHERED = 64


def shuffled_batches(data: tuple[Tensor, ...], batch_size: int) -> Iterator[list[Tensor]]:
    """The minibatches that ``DataLoader(TensorDataset(*data), batch_size, shuffle=True)`` gives under the seed.

    Args:
        data: tensors of as many rows each, at least one.
        batch_size: rows of a batch; the last may have fewer.
    """
    for rows in shuffled_rows(len(data[0])).to(data[0].device).split(N_GATHERED * batch_size):
        gathered = [part.index_select(0, rows) for part in data]
        for batch in zip(*(part.split(batch_size) for part in gathered), strict=True):
            yield list(batch)


def shuffled_rows(n_rows: int) -> Tensor:
    """The order of a ``RandomSampler`` in a DataLoader: each draws a seed, and only the sampler's is used."""
    for _ in ("loader", "sampler"):
        seed = torch.empty((), dtype=torch.int64).random_()
    return torch.randperm(n_rows, generator=Generator().manual_seed(int(seed)))
