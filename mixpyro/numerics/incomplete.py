"""Columns of rows of which some outputs were not observed, one pattern of missing outputs at a time."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mixpyro.numerics import nested
from mixpyro.shapes import Value


class Pattern(NamedTuple):
    """The rows that lack the same outputs."""

    missing: tuple[int, ...]  # numbers of the outputs
    rows: Int[Tensor, " M"]


class Incomplete:
    """Columns of N rows of which some outputs were not observed; these are zero in the columns.

    Formulas take the rows of one pattern of missing outputs together, so that their cost is one for each pattern, and
    not one for each row.

    Args:
        columns: a nest of tensors, rows along the last axis.
        patterns: which outputs are missing, for each pattern [Q, P].
        index: number of the pattern of each row [N].
    """

    def __init__(self, columns: Value, patterns: Bool[Tensor, "Q P"], index: Int[Tensor, " N"]) -> None:
        self.columns, self.patterns, self.index = columns, patterns, index

    @classmethod
    def of(cls, columns: Value, missing: Bool[Tensor, "N P"]) -> "Incomplete":
        """Return columns with zeros where they are NaN.

        Args:
            columns: a nest of tensors, rows along the last axis, NaN where an output is missing.
            missing: which outputs of each row are.
        """
        patterns, index = torch.unique(missing, dim=0, return_inverse=True)
        return cls(nested.apply(lambda part: part.nan_to_num(nan=0.0), columns), patterns, index)

    @cached_property
    def parts(self) -> list[Pattern]:
        """The patterns that some row has."""
        order = self.index.argsort(stable=True)
        rows = order.split(torch.bincount(self.index, minlength=len(self.patterns)).tolist())
        numbers = (tuple(row.nonzero().flatten().tolist()) for row in self.patterns)
        return [Pattern(missing, own) for missing, own in zip(numbers, rows, strict=True) if len(own)]

    def each(self) -> Iterator[tuple[Pattern, Value]]:
        """Yield each pattern with the columns of its rows."""
        for part in self.parts:
            yield part, nested.apply(lambda column, rows=part.rows: column[..., rows], self.columns)

    def gathered(self, values: Sequence[Tensor]) -> Tensor:
        """Return values of all rows [..., N] in their order.

        Args:
            values: [..., M] of the rows of each pattern, in the order of :attr:`parts`.
        """
        order = torch.cat([part.rows for part in self.parts])
        # Without rows there is no pattern, and nothing to put in order.
        return torch.cat(list(values), dim=-1)[..., order.argsort()]
