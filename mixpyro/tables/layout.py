"""The columns of a table that a mixture was fitted to, by name, and how they become columns of numbers."""

import json
from typing import Any, NamedTuple

import numpy as np

from mixpyro.arguments import shown
from mixpyro.tables import frames
from mixpyro.tables.frames import Frame


class Layout(NamedTuple):
    """Names of columns in order, and the levels of those that are categories.

    A category of L levels becomes L − 1 columns of 0 and 1, one for each level but the first (treatment coding).
    """

    names: tuple[str, ...]
    levels: tuple[tuple[Any, ...] | None, ...]  # of each column; None for one of numbers

    @classmethod
    def of(cls, argument: str, table: Frame) -> "Layout":
        """Return the layout of a table; one without names has columns of numbers alone, as it cannot be asked again.

        Args:
            argument: of the caller, for messages.
            table: its columns.
        """
        found = tuple(
            tuple(frames.levels(argument, name, column)) if table.package and frames.is_levels(column) else None
            for name, column in table.columns.items()
        )
        return cls(tuple(table.columns), found)

    @property
    def coded_names(self) -> tuple[str, ...]:
        """Names of the columns of numbers; ``treatment[T.b]`` of level b."""
        names: list[str] = []
        for name, own in zip(self.names, self.levels, strict=True):
            names += [name] if own is None else [f"{name}[T.{level}]" for level in own[1:]]
        return tuple(names)

    def coded(self, argument: str, table: Frame) -> list[np.ndarray]:
        """Return the columns of numbers, each [N], of a table with these columns and perhaps others.

        Args:
            argument: of the caller, for messages.
            table: its columns; one column without a name, and those of an array, are taken by position.

        Raises:
            TypeError: if a column of numbers has something else.
            ValueError: if a column is missing, or a level is not one of the fit.
        """
        coded: list[np.ndarray] = []
        for name, own, column in zip(self.names, self.levels, self._columns(argument, table), strict=True):
            if own is None:
                coded.append(frames.numbers(argument, name, column))
                continue
            values = frames.level_values(argument, name, column)
            unknown = [value for value in values if value not in own]
            if unknown:
                raise ValueError(
                    f"`{argument}` must have the levels of the fit in column {name!r}, {list(own)}; got "
                    f"{shown(unknown[0])}."
                )
            coded += [np.array([value == level for value in values], dtype=np.float64) for level in own[1:]]
        return coded

    def _columns(self, argument: str, table: Frame) -> list[Any]:
        """Return the columns of the fit, by name where both have names."""
        if table.package and "" not in table.columns and "" not in self.names:
            missing = [name for name in self.names if name not in table.columns]
            if missing:
                raise ValueError(
                    f"`{argument}` must have the columns of the fit, {list(self.names)}; got {list(table.columns)}, "
                    f"without {shown(missing[0])}. An array goes by position."
                )
            return [table.columns[name] for name in self.names]
        if len(table.columns) != len(self.names):
            raise ValueError(
                f"`{argument}` must have the {len(self.names)} columns of the fit, {list(self.names)}; got "
                f"{len(table.columns)}."
            )
        return list(table.columns.values())


class Layouts(NamedTuple):
    """Layouts of what a mixture was fitted to; None for what was no frame."""

    x: Layout | None = None
    y: Layout | None = None
    gate_x: Layout | None = None

    def to_json(self) -> str:
        """Return the layouts as text."""
        return json.dumps([None if own is None else [own.names, own.levels] for own in self])

    @classmethod
    def from_json(cls, text: str) -> "Layouts":
        """Return the layouts of a text that :meth:`to_json` made.

        Args:
            text: of layouts.

        Raises:
            ValueError: if it is another one.
        """
        try:
            return cls(*(None if own is None else _layout(*own) for own in json.loads(text)))
        except (TypeError, ValueError) as error:
            raise ValueError("names of columns must be as they were saved; got a damaged text.") from error


def _layout(names: list[str], levels: list[list[Any] | None]) -> Layout:
    """Return a layout from lists, if they are of one length and names are text."""
    if len(names) != len(levels) or not all(isinstance(name, str) for name in names):
        raise ValueError("names and levels differ in number")
    return Layout(tuple(names), tuple(None if own is None else tuple(own) for own in levels))
