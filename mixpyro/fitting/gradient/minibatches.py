"""The rows that an M-step sees: shuffled minibatches for Adam, growing subsamples for L-BFGS."""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from mixpyro.distributed import sums
from mixpyro.numerics.blocks import rows_per_block

# Ratio of the sizes of successive subsamples, and of all rows to the largest subsample.
GROWTH = 4
# Number of subsamples at most: the first has 1 / GROWTH ** N_SUBSAMPLES of the rows.
N_SUBSAMPLES = 3
# Rows. Smaller subsamples are left out: they hardly locate the optimum, and one evaluation of so few rows costs as much
# as one of SMALLEST_SUBSAMPLE.
SMALLEST_SUBSAMPLE = 1500
# Rows. Larger subsamples of rows in several blocks are left out: each process of a fit would have to see all of one.
LARGEST_SUBSAMPLE = 2**18


def shuffled_batches(data: tuple[Tensor, ...], batch_size: int) -> Iterator[list[Tensor]]:
    """Draw the minibatches of one pass over the data.

    They are those of ``DataLoader(TensorDataset(*data), batch_size, shuffle=True)`` under the same seed, without its
    cost per row.

    Args:
        data: tensors with the same number of rows, at least one.
        batch_size: rows per batch, at least one; the last batch may have fewer.

    Yields:
        The rows of one batch of every tensor, in the order of ``data``.
    """
    device = data[0].device
    # Several batches at once: to gather the rows of each by itself takes as long as a layer of a small network.
    at_once = max(1, rows_per_block(sum(part[:1].numel() for part in data), device) // batch_size)
    for rows in shuffled_rows(len(data[0])).to(device).split(at_once * batch_size):
        gathered = [part.index_select(0, rows).split(batch_size) for part in data]
        yield from map(list, zip(*gathered, strict=True))


def shuffled_rows(n_rows: int) -> Tensor:
    """Draw the order of rows that a ``RandomSampler`` in a ``DataLoader`` would draw.

    Args:
        n_rows: N, at least one.

    Returns:
        A permutation [N] of the row numbers, on the CPU.
    """
    # The loader and its sampler each draw a seed from the global generator; only the sampler's is used.
    for _ in ("loader", "sampler"):
        seed = torch.empty((), dtype=torch.int64, device="cpu").random_()
    return torch.randperm(n_rows, generator=Generator("cpu").manual_seed(int(seed)), device="cpu")


def growing_subsamples(data: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
    """Draw nested subsamples of the rows, smallest first.

    The draw has a seed of its own: every call gives the same rows, and the global random state does not change.

    Args:
        data: tensors with N rows each; the last holds responsibilities [N, K].

    Yields:
        The rows of one subsample of every tensor, the responsibilities multiplied by N over the size of the subsample.
        Nothing where N is below ``GROWTH * SMALLEST_SUBSAMPLE``.
    """
    n_rows = sums.n_rows_of_all(len(data[0]))
    sizes = [n_rows // GROWTH**power for power in range(N_SUBSAMPLES, 0, -1)]
    sizes = [size for size in sizes if size >= SMALLEST_SUBSAMPLE]
    if sums.current() is not None:
        sizes = [size for size in sizes if size <= LARGEST_SUBSAMPLE]
    generator = Generator("cpu").manual_seed(0)
    order = torch.randperm(n_rows if sizes else 0, generator=generator, device="cpu")
    for size in sizes:
        *inputs, responsibilities = (sums.rows_of_all(part, order[:size]) for part in data)
        yield *inputs, responsibilities * (n_rows / size)
