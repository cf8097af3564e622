"""Rows of numbers by name, that print as a table and become a pandas DataFrame."""

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

# Characters. A wider number moves its line out of the columns.
CELL_WIDTH = 14

Row = TypeVar("Row", bound=NamedTuple)


class NamedRows(dict[str, Row]):
    """Rows by name, each a named tuple of numbers."""

    note: str = ""

    def to_frame(self) -> Any:  # noqa: ANN401 (a pandas DataFrame)
        """Return a pandas DataFrame with a row for each name."""
        return pandas().DataFrame.from_records([row._asdict() for row in self.values()], index=list(self))

    def to_latex(self, **options: Any) -> str:  # noqa: ANN401
        """Return a table for LaTeX.

        Args:
            **options: of ``DataFrame.to_latex``, such as ``caption`` and ``label``. A ``precision``
                is the number of decimals, 3 by default.
        """
        return latex(self.to_frame(), **options)

    def __str__(self) -> str:
        """Return the rows as a text table, a line each; the note follows."""
        return text_table(self, self.note, self.shown)

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the columns that text and notebooks show."""
        return tuple(next(iter(self.values()))._fields) if self else ()

    def _repr_html_(self) -> str:
        """Return a table for a notebook."""
        note = f"<p>{self.note}</p>" if self.note else ""
        frame = self.to_frame()
        return f"{frame[list(self.shown)].to_html(float_format=number)}{note}" if self else note


def text_table(rows: Mapping[str, Any], note: str = "", fields: tuple[str, ...] = ()) -> str:
    """Return rows as a text table with one line each.

    Args:
        rows: named tuples of numbers, by name.
        note: a line that follows.
        fields: titles of the columns.
    """
    width = max(map(len, rows), default=0)
    lines = [" ".join([" " * width, *(f"{name:>{CELL_WIDTH}}" for name in fields)])]
    for name, row in rows.items():
        cells = [f"{number(getattr(row, field)):>{CELL_WIDTH}}" for field in fields]
        lines.append(" ".join([f"{name:<{width}}", *cells]))
    return "\n".join([*lines, note] if note else lines)


def number(value: float) -> str:
    """Format a number: an integer as it is, others with three decimals, or three significant digits below 1.

    Args:
        value: any number.
    """
    if isinstance(value, int):
        return f"{value:d}"
    return f"{value:.3f}" if abs(value) >= 1.0 else f"{value:.3g}"


def pandas() -> Any:  # noqa: ANN401 (a module)
    """Return the module pandas, which is loaded when the first frame is made."""
    return importlib.import_module("pandas")


def latex(frame: Any, *, precision: int = 3, **options: Any) -> str:  # noqa: ANN401 (a DataFrame)
    """Return a DataFrame as a table for LaTeX, with escaped names.

    Args:
        frame: a pandas DataFrame.
        precision: decimals.
        **options: of ``DataFrame.to_latex``.
    """
    return str(frame.to_latex(**{"escape": True, "float_format": f"%.{precision}f", **options}))
