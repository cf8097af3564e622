"""Names of columns and labels of rows of the frames that estimators were given."""

from collections.abc import Iterable
from typing import Any

from mixpyro.tables import frames
from mixpyro.tables.layout import Layout
from mixpyro.tables.returned import RowLabels


def labels_of(X: Any) -> RowLabels:  # noqa: ANN401 (any table)
    """Return of which library a table is, and the labels of its rows.

    Args:
        X: a frame, or any other table.
    """
    if not frames.is_frame(X):
        return RowLabels("")
    table = frames.read("X", X)
    return RowLabels(table.package, table.index)


def layout(names: Iterable[str], *, scaled: bool = False) -> Layout:
    """Return the layout of columns of numbers.

    Args:
        names: of the columns.
        scaled: whether they are in units of their scales, which the names shall say.
    """
    found = tuple(f"{name} (scaled)" if scaled else str(name) for name in names)
    return Layout(found, (None,) * len(found))
