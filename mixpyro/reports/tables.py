"""Text tables of coefficients and of criteria."""

from collections.abc import Mapping

from mixpyro.reports.coefficient_table import Coefficient
from mixpyro.reports.criteria import Criteria
from mixpyro.reports.named_rows import text_table


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
