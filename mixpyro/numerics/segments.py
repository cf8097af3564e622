"""Contiguous segments of rows, such as the rows of each group: sums over them, and values that their rows share."""

from collections.abc import Iterator
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

from mixpyro.numerics import nested
from mixpyro.numerics.incomplete import Incomplete
from mixpyro.shapes import Value


class Segments:
    """N rows in G segments, one after another.

    Args:
        sizes: rows of each segment [G]; 0 where none was observed.
    """

    def __init__(self, sizes: Int[Tensor, " G"]) -> None:
        self.sizes = sizes

    def __len__(self) -> int:
        """G."""
        return len(self.sizes)

    @cached_property
    def ends(self) -> Int[Tensor, " G"]:
        """Number of the first row after each segment [G]."""
        return self.sizes.cumsum(0)

    @cached_property
    def index(self) -> Int[Tensor, " N"]:
        """Segment of each row [N]."""
        return torch.arange(len(self), device=self.sizes.device).repeat_interleave(self.sizes)

    @property
    def n_rows(self) -> int:
        """N."""
        return int(self.ends[-1]) if len(self) else 0

    def sum(self, values: Tensor) -> Tensor:
        """Return sums over the rows of each segment [..., G].

        Args:
            values: [..., N].
        """
        total = values.new_zeros(*values.shape[:-1], len(self))
        return total.index_add(-1, self.index, values)

    def spread(self, values: Tensor) -> Tensor:
        """Return what each row's segment has [..., N].

        Args:
            values: [..., G].
        """
        return values.index_select(-1, self.index)

    def select(self, segments: slice | Tensor) -> "tuple[slice | Tensor, Segments]":
        """Return the rows of some segments, and these segments by themselves.

        Args:
            segments: a slice without a step, or indices [B], some perhaps more than once.
        """
        chosen = Segments(self.sizes[segments])
        starts = self.ends - self.sizes
        if isinstance(segments, slice):
            if not len(chosen):
                return slice(0, 0), chosen
            first, last, _ = segments.indices(len(self))
            return slice(int(starts[first]), int(self.ends[last - 1])), chosen
        within = torch.arange(chosen.n_rows, device=self.sizes.device) - chosen.spread(chosen.ends - chosen.sizes)
        return chosen.spread(starts[segments]) + within, chosen

    def blocks(self, n_rows: int) -> Iterator[slice]:
        """Yield slices of segments that cover all in order, each of about as many rows as asked for.

        Args:
            n_rows: rows of a slice, at least 1; a slice has more where a single segment has more.
        """
        ends = self.ends.cpu()
        marks = torch.arange(n_rows, self.n_rows + n_rows, n_rows, device="cpu")
        # The last segment that ends at or before each mark, and one at least.
        bounds = torch.searchsorted(ends, marks, right=True).unique().tolist()
        start = 0
        for stop in [*(bound for bound in bounds if bound), len(self)]:
            if stop > start:
                yield slice(start, stop)
                start = stop


class Grouped:
    """Columns of rows in segments: what a density of each row reads, where the rows of a segment have one component.

    Args:
        columns: a nest of tensors, rows along the last axis.
        segments: of the rows.
    """

    def __init__(self, columns: Value, segments: Segments) -> None:
        self.columns = columns
        self.segments = segments


def selected(columns: Value, objects: slice | Tensor) -> Value:
    """Return the columns of some objects, which are segments where columns are :class:`Grouped`, and rows elsewhere.

    Args:
        columns: a nest of tensors, or tuples of such nests and grouped columns.
        objects: a slice without a step, or indices [B].
    """
    if isinstance(columns, Grouped):
        rows, segments = columns.segments.select(objects)
        return Grouped(selected(columns.columns, rows), segments)
    if isinstance(columns, Incomplete):
        return Incomplete(selected(columns.columns, objects), columns.patterns, columns.index[objects])
    if type(columns) is tuple:
        return tuple(selected(part, objects) for part in columns)
    return nested.apply(lambda column: column[..., objects], columns)


def in_float64(columns: Value) -> Value:
    """Return columns in float64.

    Args:
        columns: as for :func:`selected`.
    """
    if isinstance(columns, Grouped):
        return Grouped(in_float64(columns.columns), columns.segments)
    if isinstance(columns, Incomplete):
        return Incomplete(in_float64(columns.columns), columns.patterns, columns.index)
    if type(columns) is tuple:
        return tuple(in_float64(part) for part in columns)
    return nested.apply(Tensor.double, columns)
