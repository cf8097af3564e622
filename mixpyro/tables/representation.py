"""What a module says of itself: its arguments in a line, and a small table for notebooks."""

import html
import inspect
from collections.abc import Mapping
from typing import Any

# Arguments that say where a module is, not what it is.
PLACES = ("name", "device", "dtype")
# Characters of a value that a line shows.
MOST_CHARACTERS = 40


def arguments_of(module: Any) -> dict[str, str]:  # noqa: ANN401 (a module)
    """Return the arguments of a module's constructor that are plain values and not the defaults, as text.

    Args:
        module: that keeps its arguments as attributes.
    """
    found: dict[str, str] = {}
    for name, parameter in inspect.signature(type(module)).parameters.items():
        value = getattr(module, name, None)
        if type(value).__module__.startswith("mixpyro.") and name == "family":
            found[name] = type(value).__name__
        if name in PLACES or value is None or not _is_plain(value):
            continue
        has_default = parameter.default is not parameter.empty
        if not (has_default and type(value) is type(parameter.default) and value == parameter.default):
            text = repr(value)
            found[name] = text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
    return found


def line_of(module: Any) -> str:  # noqa: ANN401 (a module)
    """Return the arguments of a module in a line, as in ``n_components=3, n_features=1``.

    Args:
        module: that keeps its arguments as attributes.
    """
    return ", ".join(f"{name}={value}" for name, value in arguments_of(module).items())


def html_table(title: str, rows: Mapping[str, str]) -> str:
    """Return names and values as a table for a notebook.

    Args:
        title: above the table.
        rows: values by name.
    """
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
        for name, value in rows.items()
    )
    return f"<div><h4>{html.escape(title)}</h4><table>{cells}</table></div>"


def _is_plain(value: object) -> bool:
    """Return whether a value is a number, a string, or a short sequence of these."""
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return isinstance(value, bool | int | float | str)
