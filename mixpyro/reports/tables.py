"""Text tables of coefficients and of criteria."""

from collections.abc import Mapping

from mixpyro.reports.coefficients import Coefficient
from mixpyro.reports.comparison import Ranking
from mixpyro.reports.criteria import Criteria

# Characters. A wider number moves its line out of the columns.
CELL_WIDTH = 14


def as_table(rows: Mapping[str, Criteria | Coefficient]) -> str:
    """Format criteria or coefficients as a text table with one line each.

    A note of :func:`~mixpyro.compare`, by which criterion the rows are ranked, follows in a line of its own. Integers
    are printed as they are, other numbers with three decimals, or three significant digits below 1.

    Args:
        rows: results of :func:`~mixpyro.compare` or :func:`~mixpyro.coefficients`, by name. Without any, the table has
            the titles of criteria alone.
    """
    width = max(map(len, rows), default=0)
    fields = next(iter(rows.values()))._fields if rows else Criteria._fields
    lines = [" ".join([" " * width, *(f"{name:>{CELL_WIDTH}}" for name in fields)])]
    for name, row in rows.items():
        lines.append(" ".join([f"{name:<{width}}", *map(_cell, row)]))
    return "\n".join([*lines, rows.note] if isinstance(rows, Ranking) else lines)


def _cell(value: float) -> str:
    """Format one number, right-aligned."""
    if isinstance(value, int):
        return f"{value:>{CELL_WIDTH}d}"
    return f"{value:>{CELL_WIDTH}.3f}" if abs(value) >= 1.0 else f"{value:>{CELL_WIDTH}.3g}"
