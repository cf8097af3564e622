"""Text tables of coefficients and of criteria."""

from collections.abc import Mapping

from mixpyro import arguments
from mixpyro.reports.coefficient_table import Coefficient
from mixpyro.reports.criteria import Criteria
from mixpyro.reports.named_rows import text_table

one_row = arguments.one_of_kinds("criteria or a coefficient", Criteria, Coefficient)


def _rows(name: str, value: object) -> Mapping[str, Criteria | Coefficient]:
    """Return rows of one kind by name."""
    rows = arguments.mapping(name, value)
    for key, row in rows.items():
        one_row(f"{name}[{arguments.shown(key)}]", row)
    if len({type(row) for row in rows.values()}) > 1:
        raise ValueError(f"`{name}` must be of one kind; got criteria and coefficients.")
    return rows


@arguments.checked(rows=_rows)
def as_table(rows: Mapping[str, Criteria | Coefficient]) -> str:
    """Format criteria or coefficients as a text table with one line each.

    A note of :func:`~mixpyro.compare`, by which criterion the rows are ranked, follows in a line of its own. Integers
    are printed as they are, other numbers with three decimals, or three significant digits below 1. ``print(rows)``
    does the same for what :func:`~mixpyro.compare` and :func:`~mixpyro.coefficients` return, and ``rows.to_frame()``
    is a DataFrame.

    Args:
        rows: results of :func:`~mixpyro.compare` or :func:`~mixpyro.coefficients`, by name. Without any, the table has
            the titles of criteria alone.
    """
    fields = next(iter(rows.values()))._fields if rows else Criteria._fields
    return text_table(rows, getattr(rows, "note", ""), fields)
