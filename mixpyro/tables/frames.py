"""Frames and Series of pandas and polars, arrays and lists, read without importing what made them."""

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from mixpyro import arguments
from mixpyro.arguments.signals import pass_on

# Names of dtypes, of pandas and polars, whose values are levels of a category.
LEVELS = ("category", "string", "str", "enum", "categorical", "utf8")


class Frame(NamedTuple):
    """Columns of a table, with the labels of its rows."""

    columns: dict[str, Any]  # by name, each a Series or an array [N]
    index: Any  # labels of the rows; None where the table has none
    package: str  # "pandas", "polars", or "" for arrays and lists
    is_series: bool = False


def is_frame(value: object) -> bool:
    """Return whether a value is a table with named columns: a DataFrame of pandas, polars or the like.

    Args:
        value: anything.
    """
    return hasattr(value, "columns") and hasattr(value, "to_numpy") and hasattr(value, "__getitem__")


def is_series(value: object) -> bool:
    """Return whether a value is one column with a name.

    Args:
        value: anything.
    """
    return hasattr(value, "to_numpy") and hasattr(value, "dtype") and hasattr(value, "name") and not is_frame(value)


def is_table(value: object) -> bool:
    """Return whether a value is a frame, a Series, an array or a list, and no tensor.

    Args:
        value: anything.
    """
    if isinstance(value, Tensor) or value is None or isinstance(value, str | bytes | type):
        return False
    return (
        isinstance(value, np.ndarray | list)
        or (isinstance(value, tuple) and not hasattr(value, "_fields"))
        or hasattr(value, "to_numpy")
        or hasattr(value, "__array__")
        or isinstance(value, range)
    )


def read(argument: str, value: Any) -> Frame:  # noqa: ANN401 (any table)
    """Return the columns of a table, numbered ones without names.

    Args:
        argument: its name, for messages.
        value: a frame, a Series, an array or a list of one or two axes.

    Raises:
        TypeError: if it is no table.
        ValueError: if it has another number of axes, or two columns of one name.
    """
    if is_frame(value):
        names = [str(name) for name in value.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"`{argument}` must have one column of each name; got several of {arguments.shown(twice[0])}."
            )
        columns = {name: value[own] for name, own in zip(names, value.columns, strict=True)}
        return Frame(columns, _index(value), library_of(value))
    if is_series(value):
        name = "" if value.name is None else str(value.name)
        return Frame({name: value}, _index(value), library_of(value), is_series=True)
    array = as_array(argument, value)
    if array.ndim == 1:
        return Frame({"": array}, None, "", is_series=True)
    if array.ndim != 2:
        raise ValueError(f"`{argument}` must have one or two axes, rows first; got shape {list(array.shape)}.")
    return Frame({str(number): array[:, number] for number in range(array.shape[1])}, None, "")


def as_array(argument: str, value: Any) -> np.ndarray:  # noqa: ANN401 (any table)
    """Return an array of what is no tensor.

    Args:
        argument: its name, for messages.
        value: an array, a list, or what converts itself.

    Raises:
        TypeError: if it is none of these.
        ValueError: if rows are of unlike lengths.
    """
    if not is_table(value):
        raise TypeError(
            f"`{argument}` must be a tensor, an array, a list, a DataFrame or a Series; got {type(value).__name__}."
        )
    if isinstance(value, range):
        return arguments.in_memory(argument, value)
    if isinstance(value, list | tuple) and value and all(isinstance(row, Tensor) for row in value):
        value = [arguments.array_of(argument, row) for row in value]
    try:
        return np.asarray(value.to_numpy() if hasattr(value, "to_numpy") else value)
    except ValueError as error:
        raise ValueError(f"`{argument}` must have rows of one length; got rows of several.") from error
    except (TypeError, RuntimeError) as error:
        pass_on(error)
        raise TypeError(f"`{argument}` must have values that NumPy reads; got {arguments.shown(value)}.") from error


def is_levels(column: Any) -> bool:  # noqa: ANN401 (a column)
    """Return whether the values of a column are levels of a category, not numbers.

    Args:
        column: a Series or an array [N].
    """
    kind = str(column.dtype).lower()
    if kind.startswith(LEVELS) or getattr(column.dtype, "kind", "") in ("U", "S"):
        return True
    if kind == "object":
        values = np.asarray(column, dtype=object)
        return any(isinstance(value, str) for value in values.reshape(-1))
    return False


def numbers(argument: str, name: str, column: Any) -> np.ndarray:  # noqa: ANN401 (a column)
    """Return a column of numbers, float32 or float64, NaN where a value is missing.

    Args:
        argument: of the caller, for messages.
        name: of the column, for messages; empty where it has none.
        column: a Series or an array [N] of numbers or bools.

    Raises:
        TypeError: if its values are something else.
    """
    of = f" in column {arguments.shown(name)}" if name else ""
    kind = str(column.dtype).lower()
    if is_levels(column) or "date" in kind or "time" in kind or "complex" in kind or kind.startswith("period"):
        advice = "Use pandas.to_numeric, if the text is of numbers" if is_levels(column) else "Use numbers, as of years"
        raise TypeError(f"`{argument}` must have numbers{of}; got values of dtype {column.dtype}. {advice}.")
    try:
        if library_of(column) == "pandas" and not isinstance(column.dtype, np.dtype):
            return np.array(column.to_numpy(dtype=np.float64, na_value=np.nan))
        values = column.to_numpy() if hasattr(column, "to_numpy") else np.asarray(column)
        return np.array(values, dtype=np.float32 if values.dtype == np.float32 else np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"`{argument}` must have numbers{of}; got values of dtype {column.dtype}.") from error


def levels(argument: str, name: str, column: Any) -> list[Any]:  # noqa: ANN401 (a column)
    """Return the levels of a category that occur in a column, in their order: the category's own, or sorted.

    Args:
        argument: of the caller, for messages.
        name: of the column, for messages.
        column: a Series or an array [N] of levels.

    Raises:
        ValueError: if a value is missing.
    """
    values = level_values(argument, name, column)
    found = set(values)
    own = getattr(getattr(column, "cat", None), "categories", None)
    in_order = [plain(one) for one in own] if own is not None and not callable(own) else sorted(found, key=str)
    return [one for one in in_order if one in found]


def level_values(argument: str, name: str, column: Any) -> list[Any]:  # noqa: ANN401 (a column)
    """Return the level of every row [N], a string, number or bool.

    Args:
        argument: of the caller, for messages.
        name: of the column, for messages.
        column: a Series or an array [N] of levels.

    Raises:
        ValueError: if a value is missing.
    """
    values = [plain(value) for value in (column.to_list() if hasattr(column, "to_list") else column.tolist())]
    missing = sum(value is None or value != value or not isinstance(value, str | int | float) for value in values)
    if missing:
        raise ValueError(
            f"`{argument}` must have a level in every row of column {arguments.shown(name)}; got {missing} missing. "
            "Drop these rows."
        )
    return values


def plain(value: Any) -> Any:  # noqa: ANN401 (a value of a table)
    """Return a value of a table as one of Python.

    Args:
        value: of NumPy, pandas or Python.
    """
    return value.item() if isinstance(value, np.generic) else value


def same_index(first: Any, second: Any) -> bool:  # noqa: ANN401 (labels of rows)
    """Return whether two tables have the same labels of rows, in order, or one has names and the other none.

    Args:
        first: an index.
        second: an index.
    """
    if bool(first.equals(second)) if hasattr(first, "equals") else bool(np.array_equal(first, second)):
        return True
    # Row numbers beside names are no labels: such tables go by position.
    return any(_are_row_numbers(one) and not _are_numbers(other) for one, other in ((first, second), (second, first)))


def _are_row_numbers(index: Any) -> bool:  # noqa: ANN401 (labels of rows)
    """Return whether labels are 0, 1, …, as of a table that was given none."""
    return _are_numbers(index) and bool(np.array_equal(np.asarray(index), np.arange(len(index))))


def _are_numbers(index: Any) -> bool:  # noqa: ANN401 (labels of rows)
    """Return whether labels are integers."""
    return np.asarray(index).dtype.kind in "iu"


def library_of(value: object) -> str:
    """Return the library of a table, ``"pandas"`` or ``"polars"``; empty for any other.

    Args:
        value: anything.
    """
    own = type(value).__module__.split(".")[0]
    return own if own in ("pandas", "polars") and own in sys.modules else ""


def _index(value: Any) -> Any:  # noqa: ANN401 (labels of rows)
    """Return the labels of the rows; None for a table without."""
    index = getattr(value, "index", None)
    return None if callable(index) else index


def new_frame(package: str, values: np.ndarray, columns: Sequence[Any], index: Any) -> Any:  # noqa: ANN401
    """Return a frame of the library that the caller's table is of.

    Args:
        package: "pandas" or "polars".
        values: [N, C].
        columns: names [C].
        index: labels of the rows; None to number them.
    """
    module = sys.modules[package]
    if package == "polars":
        return module.DataFrame({str(name): values[:, number] for number, name in enumerate(columns)})
    return module.DataFrame(values, index=index, columns=columns)


def new_series(package: str, values: np.ndarray, name: str | None, index: Any) -> Any:  # noqa: ANN401
    """Return a Series of the library that the caller's table is of.

    Args:
        package: "pandas" or "polars".
        values: [N].
        name: of the Series.
        index: labels of the rows; None to number them.
    """
    module = sys.modules[package]
    if package == "polars":
        return module.Series(name or "", values)
    return module.Series(values, index=index, name=name)
