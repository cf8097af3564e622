"""Ranks that pass the same rows, which a fit of the rows of all ranks counts more than once."""

import hashlib
from collections.abc import Sequence

import torch

from mixpyro.distributed.processes import Processes
from mixpyro.fitting.table import Table

# Rows of each rank that are compared at first; all of them are only where these are the same.
FEW = 1000
# Rows of a rank below which two ranks may well have the same ones by chance.
FEWEST = 10


def same_rows(table: Table, processes: Processes | None) -> list[str]:
    """Return a caution if two ranks have passed the same rows, in words.

    Args:
        table: what this rank was given, perhaps without rows.
        processes: of the fit; None for one.
    """
    if processes is None:
        return []
    n_rows = len(table.x)
    few = torch.linspace(0, max(n_rows - 1, 0), min(FEW, n_rows), dtype=torch.float64, device="cpu").long()
    alike = _alike(processes.objects(_digest(table, few) if n_rows >= FEWEST else None))
    if len(alike) > 1:
        alike = _alike(processes.objects(_digest(table) if processes.rank in alike else None))
    if len(alike) < 2:
        return []
    counts = processes.numbers(n_rows)
    ranks = ", ".join(map(str, alike))
    return [
        f"ranks {ranks} of {processes.size} have passed the same {counts[alike[0]]} rows, which count {len(alike)} "
        "times. Pass other rows on each rank: of x, those of the slice `mixpyro.distributed.shard(len(x))`."
    ]


def _alike(digests: Sequence[bytes | None]) -> list[int]:
    """Return the ranks that have most often one and the same digest; none where no two have."""
    ranks = [[at for at, one in enumerate(digests) if one == digest] for digest in digests if digest is not None]
    most: list[int] = max(ranks, key=len, default=[])
    return most if len(most) > 1 else []


def _digest(table: Table, rows: torch.Tensor | None = None) -> bytes:
    """Return a digest of the number of rows and of some of them; of all where None are named."""
    digest = hashlib.sha256(str(len(table.x)).encode())
    for value in (table.x, table.y):
        chosen = value if rows is None else value[rows.to(value.device)]
        digest.update(chosen.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()
