"""Rows of a stream that are kept: a sample in which every object so far is as likely as any other."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from mixpyro.fitting.rows_of_all import number_of_all, numbers_in_all, picked_of_all, seen_by_all
from mixpyro.fitting.table import Table
from mixpyro.numerics.segments import Segments


class KeptRows:
    """A random sample of the objects that were shown to it, of at most ``capacity``.

    Args:
        capacity: most objects, at least 1.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.table: Table | None = None
        self.n_seen = 0.0

    def __len__(self) -> int:
        """Number of objects that are kept."""
        return 0 if self.table is None else self.table.size

    def copied(self) -> "KeptRows":
        """Return another sample with the same objects, which changes by itself."""
        other = KeptRows(self.capacity)
        other.table, other.n_seen = self.table, self.n_seen
        return other

    def add(self, table: Table, objects: Tensor | None, generator: Generator) -> None:
        """Show objects, of which some take the places of others.

        Args:
            table: a batch, without known components; every process shows what it has of it.
            objects: which of the objects of this process [B]; None for all.
            generator: of random numbers.
        """
        size = table.size_of_all if objects is None else number_of_all(table, len(objects))
        if not size:
            return
        n_kept = int(min(self.capacity, self.n_seen + size))
        share = torch.tensor(size / (self.n_seen + size), dtype=torch.float64, device="cpu")
        expected = torch.binomial(torch.tensor(float(n_kept), dtype=torch.float64, device="cpu"), share, generator)
        n_new = min(max(int(expected), n_kept - len(self)), size, n_kept)
        kept = self.table
        if kept is not None and n_kept - n_new < len(self):
            stay = torch.randperm(len(self), generator=generator, device="cpu")[: n_kept - n_new]
            kept = kept.block(stay.to(table.x.device))
        if n_new:
            # To shuffle a long batch takes longer than to draw a few rows of it.
            few = torch.randint(size, (n_new,), generator=generator, device="cpu")
            chosen = (
                few if size > 2 * self.capacity else torch.randperm(size, generator=generator, device="cpu")[:n_new]
            )
            chosen = chosen.to(table.x.device)
            if objects is not None:
                chosen = picked_of_all(table, numbers_in_all(table, objects), chosen)
            new = seen_by_all(table, chosen)
            self.table = new if kept is None else joined([kept, new])
        self.n_seen += size

    def hold(self, table: Table, counts: Tensor, generator: Generator) -> None:
        """Keep a sample of objects that stand for others in place of what is kept.

        Args:
            table: objects, one at least.
            counts: how many objects each stands for [N], above 0.
            generator: of random numbers.
        """
        self.n_seen, ends = float(counts.sum()), counts.double().cumsum(0).cpu()
        self.table = table
        if table.size > self.capacity:
            start = torch.rand((), generator=generator, dtype=torch.float64, device="cpu")
            marks = (torch.arange(self.capacity, device="cpu") + start) * (ends[-1] / self.capacity)
            chosen = torch.searchsorted(ends, marks).clamp_max(table.size - 1)
            self.table = table.block(chosen.to(table.x.device))

    @property
    def count(self) -> float:
        """How many objects each that is kept stands for."""
        return self.n_seen / max(1, len(self))


def joined(tables: Sequence[Table]) -> Table:
    """Return the objects of several tables as one, without columns, in the dtype of the last.

    Args:
        tables: at least one.
    """
    like = tables[-1].x
    x = torch.cat([one.x.to(like) for one in tables])
    y = torch.cat([one.y.to(like) for one in tables])
    shares_x = all(one.gate_x is one.x for one in tables)
    gate_x = x if shares_x else torch.cat([one.gate_x.to(like) for one in tables])
    weights = segments = None
    if any(one.weights is not None for one in tables):
        own = [like.new_ones(one.size) if one.weights is None else one.weights.to(like) for one in tables]
        weights = torch.cat(own)
    if any(one.segments is not None for one in tables):
        sizes = [
            torch.ones(one.size, dtype=torch.long, device=like.device) if one.segments is None else one.segments.sizes
            for one in tables
        ]
        segments = Segments(torch.cat(sizes))
    misses = any(one.misses for one in tables)
    return Table(x, y, gate_x, weights, segments=segments, misses=misses)
