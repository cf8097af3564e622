"""Which columns of a table, and which variables of the caller, formulas use."""

import ast
import builtins
import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from mixpyro.arguments import shown

# What separates the names of columns that were read as one.
SEPARATED = re.compile(r"[;\t|]")
# Of a name with which those of columns are compared, which takes time that grows with the square.
LONGEST_NAME = 1000
BACKQUOTED = re.compile(r"`([^`]*)`")


def names_in(expression: str) -> list[str]:
    """Return the names that an expression of a formula uses, each once, in order.

    Args:
        expression: Python, where a name that is not one of Python stands between backquotes.

    Raises:
        ValueError: if it is no expression.

    Example:
        >>> names_in("np.log(dose + `body mass`)")
        ['body mass', 'np', 'dose']
    """
    quoted = BACKQUOTED.findall(expression)
    try:
        tree = ast.parse(BACKQUOTED.sub("(0)", expression).strip(), mode="eval")
    except SyntaxError as error:
        raise ValueError(
            f"a formula must have terms that are expressions of Python; got {shown(expression)}."
        ) from error
    bound = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    bound |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    found = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id not in bound]
    return list(dict.fromkeys([*quoted, *found]))


def captured(
    argument: str, names: Iterable[str], columns: Iterable[str], caller: Mapping[str, Any], n_rows: int
) -> dict[str, Any]:
    """Return the variables of the caller that formulas use: functions and constants, no columns.

    A name is that of a column where there is one, then that of a variable of the caller, then that of a transform of
    formulaic. What is called as a transform of formulaic is one where the caller's variable is no function.

    Args:
        argument: whose formula it is, for messages.
        names: what formulas use.
        columns: of the table.
        caller: variables of the caller.
        n_rows: N.

    Raises:
        ValueError: if a name is neither, or a variable of the caller has a value for each row: new rows would have
            none.
    """
    from formulaic.transforms import TRANSFORMS

    own = list(columns)
    found: dict[str, Any] = {}
    for name in names:
        if name in own:
            continue
        value = caller.get(name)
        if name in TRANSFORMS and not callable(value):
            continue
        if name in caller:
            shape = getattr(value, "shape", ())
            if shape and shape[0] == n_rows > 1:
                raise ValueError(
                    f"`{argument}` must use columns of `data`; got {shown(name)}, a variable with a value for each "
                    "row, of which new rows have none. Add it to `data` as a column."
                )
            found[name] = value
        elif not hasattr(builtins, name):
            raise no_column(argument, name, own)
    return found


def no_column(argument: str, name: str, columns: Iterable[Any]) -> ValueError:
    """Return the error that a table has no such column.

    Args:
        argument: whose formula names it, for the message.
        name: of the column.
        columns: that it has.
    """
    names = list(map(str, columns))
    return ValueError(
        f"`data` must have the column {shown(name)}, which `{argument}` uses; got the columns {', '.join(names)}."
        f"{_advice(name, names)}"
    )


def _advice(name: str, names: list[str]) -> str:
    """Return which column may be meant, and how it is written; empty where none is near."""
    if name == "offset":
        return " Pass offset='log(t)', an argument of its own."
    sign = SEPARATED.search(names[0]) if len(names) == 1 else None
    if sign is not None:
        return f" Was the file read with another separator? Use pandas.read_csv(path, sep={sign[0]!r})."
    if name in map(str.strip, names):
        return " Is it one with blanks around its name? Use data.rename(columns=str.strip)."
    if len(name) > LONGEST_NAME:
        return ""
    parts = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
    around = [own for own in names if parts.search(own) and own != name]
    if around:
        return f" Is it {around[0]!r}? A name with blanks or signs stands between backquotes, as `{around[0]}`."
    alike = {own.lower(): own for own in names}
    near = difflib.get_close_matches(name.lower(), alike, n=1, cutoff=0.75)
    return f" Is it {alike[near[0]]!r}?" if near else ""
