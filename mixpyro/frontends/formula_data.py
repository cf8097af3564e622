"""The rows of a table that formulas use: those without missing values, and which were dropped."""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from mixpyro.arguments import dense, shown
from mixpyro.frontends.formula_names import no_column

if TYPE_CHECKING:
    import pandas as pd

DROP, ERROR, IGNORE = "drop", "error", "ignore"
# What pandas calls values of columns of objects that are numbers.
NUMBERS = ("boolean", "integer", "floating", "mixed-integer-float", "decimal")
# What has a length, and yet no value for each row.
NO_ROWS = (str, bytes, Mapping, Set)
# Missing rows that a message lists.
N_LISTED = 5


class UsedRows(NamedTuple):
    """Rows of a table that a fit uses."""

    data: "pd.DataFrame"  # columns that formulas use, of the rows that are used
    dropped: "pd.Index"  # labels of the rows with a missing value
    kept: np.ndarray  # whether each row of the table is used, bool


def as_pandas(data: Any) -> "pd.DataFrame":  # noqa: ANN401 (any table)
    """Return a table as a pandas frame with names that are text, the same object if it is one.

    Args:
        data: a frame of pandas or polars, or a mapping of names to columns.

    Raises:
        TypeError: if it is none of these, or every column is a single value.
        ValueError: if it has no row, or two columns of one name.
    """
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        frame = data
    elif isinstance(data, Mapping):
        frame = _of_columns(data)
    elif hasattr(data, "columns") and hasattr(data, "to_dict") and hasattr(data, "to_numpy"):
        frame = pd.DataFrame({name: data[name].to_list() for name in data.columns})
    else:
        raise TypeError(
            f"`data` must be a DataFrame, or a dict of columns; got {type(data).__name__}. Use "
            "pandas.DataFrame(array, columns=[…])."
        )
    if not len(frame):
        raise ValueError("`data` must have at least one row; got none.")
    if not all(isinstance(name, str) for name in frame.columns):
        frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"`data` must have one column of each name; got several of {shown(twice)}.")
    return frame


def _of_columns(data: Mapping[Any, Any]) -> "pd.DataFrame":
    """Return columns by name as a frame."""
    import pandas as pd

    plain = {name: dense(f"data[{shown(name)}]", one) if isinstance(one, Tensor) else one for name, one in data.items()}
    try:
        are_numbers = bool(plain) and all(np.ndim(values) == 0 for values in plain.values())
    except (TypeError, NotImplementedError) as error:
        raise TypeError(f"`data` must have columns that NumPy reads; got this error: {error!r}") from error
    if are_numbers:
        name, value = next(iter(data.items()))
        raise TypeError(
            f"`data` must have a list of values in each column, as {{{shown(name)}: [{shown(value)}]}}; got "
            f"{shown(value)}."
        )
    try:
        return pd.DataFrame(plain)
    except (TypeError, ValueError, NotImplementedError) as error:  # the last of modules that torch has compiled
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"`data` must have columns that pandas reads; got this error: {error}") from error


def used_rows(
    data: "pd.DataFrame",
    names: Sequence[str],
    missing: str,
    *,
    may_be_missing: Sequence[str] = (),
    beside: Mapping[str, Any] | None = None,
) -> UsedRows:
    """Return the rows of a table without missing values in the columns that are used.

    Levels of a category that no row has are left out, and columns of nullable dtypes are made NumPy's.

    Args:
        data: a table.
        names: of the columns that are used.
        missing: "drop", "error", or "ignore" where columns of ``may_be_missing`` may be.
        may_be_missing: names of the response.
        beside: arrays or Series [N] by argument, which must have a value in these rows, too.

    Raises:
        ValueError: if ``missing`` is something else, a value is missing where it may not, or no row is left.
    """
    if not isinstance(missing, str) or missing not in (DROP, ERROR, IGNORE):
        raise ValueError(f"`missing` must be 'drop', 'error' or 'ignore'; got {shown(missing)}.")
    exempt = may_be_missing if missing == IGNORE else ()
    checked = [name for name in names if name not in exempt]
    is_missing = data[checked].isna()
    lacks = is_missing.to_numpy().any(1) if checked else np.zeros(len(data), dtype=bool)
    for argument, values in (beside or {}).items():
        lacks = lacks | _missing_in(argument, values, data.index)
    if bool(lacks.any()) and missing != DROP:
        labels = ", ".join(map(repr, data.index[lacks].tolist()[:N_LISTED]))
        where = ", ".join(repr(name) for name in checked if bool(is_missing[name].any())) or "an array"
        raise ValueError(
            f"`data` must have no missing values in the columns that are used; got {int(lacks.sum())} rows with some, "
            f"in {where}, rows {labels}{', …' * (int(lacks.sum()) > N_LISTED)}. Use missing='drop'."
        )
    if bool(lacks.all()):
        raise ValueError(f"`data` must have a row without missing values in {', '.join(map(repr, checked))}; got none.")
    kept = ~lacks
    own = data[list(names)]
    own = own.loc[kept] if bool(lacks.any()) else own
    return UsedRows(plain_columns(own), data.index[lacks], kept)


def rows_of(argument: str, values: Any, kept: np.ndarray) -> Any:  # noqa: ANN401 (an array or Series)
    """Return the values of the rows that are used.

    Args:
        argument: of the caller.
        values: an array, Series or list [N].
        kept: whether each row is used [N].
    """
    if hasattr(values, "iloc"):
        return values.iloc[np.flatnonzero(kept)]
    if isinstance(values, np.ndarray) or hasattr(values, "numpy"):
        return values[np.flatnonzero(kept)]
    return [value for value, one in zip(values, kept, strict=True) if one]


def group_ids(data: "pd.DataFrame", groups: str | Sequence[str]) -> Any:  # noqa: ANN401 (a Series, or tuples)
    """Return an id of the group of each row: a column, or the tuples of several.

    Args:
        data: a table.
        groups: name of a column, or names of several.

    Raises:
        ValueError: if there is no such column.
    """
    names = [groups] if isinstance(groups, str) else list(groups)
    for name in names:
        if name not in data.columns:
            raise no_column("groups", name, data.columns)
    if len(names) == 1:
        # Ids of text are hashed one by one; those of numbers are sorted at once.
        return data[names[0]].to_numpy()
    return list(data[names].itertuples(index=False, name=None))


def plain_columns(own: "pd.DataFrame") -> "pd.DataFrame":
    """Return columns of NumPy's dtypes, categories without levels that no row has.

    Args:
        own: a table. It is not changed.
    """
    import pandas as pd

    changed = {}
    for name in own.columns:
        column = own[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            changed[name] = column.cat.remove_unused_categories()
        elif isinstance(column.dtype, pd.StringDtype):
            # Formulaic before 1.2.1 takes the text of pandas 3 for numbers.
            changed[name] = column.astype(object)
        elif column.dtype == object and pd.api.types.infer_dtype(column, skipna=True) == "boolean":
            # Truth values with missing ones among them; a column without is of numbers, too.
            changed[name] = column.astype("boolean").astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
        elif pd.api.types.is_extension_array_dtype(column.dtype) and pd.api.types.is_numeric_dtype(column.dtype):
            changed[name] = pd.Series(column.to_numpy(dtype=np.float64, na_value=np.nan), index=own.index)
        elif column.dtype == object and pd.api.types.infer_dtype(column, skipna=True) in NUMBERS:
            # Truth values beside missing ones, as pandas reads them from a file, and decimals are no levels.
            floats = bool(column.isna().any()) or pd.api.types.infer_dtype(column) == "decimal"
            changed[name] = column.astype(np.float64) if floats else column.infer_objects()
    return own.assign(**changed) if changed else own


def _has_length(values: object) -> bool:
    """Return whether values have a number; classes, arrays without axes and compiled modules seem to."""
    try:
        len(values)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return False
    return True


def check_rows(argument: str, values: Any, index: "pd.Index") -> None:  # noqa: ANN401 (an array, Series or list)
    """Raise unless there is a value for each row of a table, in its order.

    Args:
        argument: of the caller.
        values: an array, Series or list.
        index: labels of the rows [N].

    Raises:
        TypeError: if these are no values.
        ValueError: if they are of another number, or a Series has other labels.
    """
    import pandas as pd

    plain = dense(argument, values) if isinstance(values, Tensor) else values
    if isinstance(values, NO_ROWS) or not _has_length(plain):
        advice = f" For a column, pass data[{values!r}]." if isinstance(values, str) else ""
        raise TypeError(f"`{argument}` must have a value for each row; got {shown(values)}.{advice}")
    if len(values) != len(index):
        raise ValueError(f"`{argument}` must have a value for each of {len(index)} rows; got {len(values)}.")
    if isinstance(values, pd.Series) and not values.index.equals(index):
        raise ValueError(f"`{argument}` must have the row labels of `data`; got others. Bring them into its order.")


def _missing_in(argument: str, values: Any, index: "pd.Index") -> np.ndarray:  # noqa: ANN401 (an array, Series or list)
    """Return whether each value is missing, bool [N]."""
    import pandas as pd

    check_rows(argument, values, index)
    plain = values.detach().cpu().numpy() if hasattr(values, "detach") else values
    return np.asarray(pd.isna(pd.Series(list(plain) if isinstance(plain, Iterable) else plain, dtype=object)))
