"""Colours, lines and axes that all plots share. No global setting of matplotlib is changed."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cbook import is_math_text
from matplotlib.legend import Legend
from matplotlib.mathtext import MathTextParser

from mixpyro import arguments

# Okabe and Ito's colours for colour-blind readers. Tol's wine and indigo replace yellow and black: yellow is invisible
# on white, and black reads as text. For the three kinds of colour blindness (Machado, Oliveira, Fernandes 2009) no two
# are closer than 16 units of CIE L*a*b*; grey in place of indigo would be 10 from green.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#332288")
LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (3, 1, 1, 1)), (0, (2, 2)))
# Letters of a label and of a name. The time to draw them grows with their number, a second for some 20,000.
LONGEST_LABEL, LONGEST_NAME = 1000, 80
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def colour(component: int) -> str:
    """Return the colour of a component; after the eighth they repeat, with other dashes.

    Args:
        component: its number, from 0.
    """
    return COLOURS[component % len(COLOURS)]


def dashes(component: int) -> str | tuple[int, tuple[int, ...]]:
    """Return the dashes of a component's line.

    Args:
        component: its number, from 0.
    """
    return LINES[(component + component // len(COLOURS)) % len(LINES)]


def marker(component: int) -> str:
    """Return the marker of a component's objects.

    Args:
        component: its number, from 0.
    """
    return MARKERS[(component + component // len(COLOURS)) % len(MARKERS)]


def checked_axes(name: str, value: object) -> Axes:
    """Return axes of matplotlib.

    Args:
        name: of the argument, for the message.
        value: what the user passed.

    Raises:
        TypeError: if it is something else.
    """
    if not isinstance(value, Axes):
        raise TypeError(f"`{name}` must be axes of matplotlib; got {type(value).__name__}. Use plt.subplots()[1].")
    return value


def label(name: str, value: object) -> str:
    """Return the label of an axis, which may have formulas between dollar signs.

    Args:
        name: of the argument, for the message.
        value: what the user passed.

    Raises:
        TypeError: if it is no string.
        ValueError: if it is longer than 1,000 letters, or matplotlib cannot draw it.
    """
    found: str = arguments.text(name, value)
    if len(found) > LONGEST_LABEL:
        raise ValueError(f"`{name}` must have at most {LONGEST_LABEL} letters; got {len(found)}.")
    try:
        found.encode()
        if is_math_text(found):
            MathTextParser("path").parse(found)
    except ValueError as error:  # UnicodeEncodeError is one
        raise ValueError(f"`{name}` must be a text that can be drawn; got {arguments.shown(found)}.") from error
    return found


def drawn(name: str, *, longest: int = LONGEST_NAME) -> str:
    """Return a text for matplotlib to draw letter by letter, without formulas, such as the name of a column.

    Args:
        name: any string.
        longest: number of letters; a longer text is cut.
    """
    short = name if len(name) <= longest else f"{name[: longest - 1]}…"
    return short.encode(errors="backslashreplace").decode().replace("$", r"\$")


# Numbers of points along a curve, and along each axis of a map.
points, points_of_map = arguments.integer_from(2, 10_000), arguments.integer_from(2, 2000)


def two_columns(name: str, value: object) -> tuple[object, object]:
    """Return the two columns of a map.

    Args:
        name: of the argument, for the message.
        value: what the user passed.

    Raises:
        TypeError: if they are not two values in a list or tuple.
    """
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise TypeError(f"`{name}` must be two columns, each by number or name; got {arguments.shown(value)}.")
    return value[0], value[1]


def axes_or_new(ax: Axes | None, *, size: tuple[float, float] = (5.5, 3.6)) -> Axes:
    """Return the given axes, or those of a new figure.

    Args:
        ax: axes, or None.
        size: width and height of a new figure, in inches.
    """
    if ax is not None:
        return ax
    import matplotlib.pyplot

    _, new = matplotlib.pyplot.subplots(figsize=size, layout="constrained")
    return new


def plain(ax: Axes) -> Axes:
    """Hide the lines at the top and on the right, and return the axes.

    Args:
        ax: the axes.
    """
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def legend(ax: Axes, n_entries: int, *, title: str | None = "Component") -> Legend:
    """Put the legend to the right of the axes, where it covers nothing.

    Args:
        ax: the axes.
        n_entries: number of entries; more than 12 take two columns.
        title: of the legend.
    """
    columns = 1 if n_entries <= 12 else 2
    return ax.legend(
        title=title, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, ncols=columns, alignment="left"
    )


def note(ax: Axes, text: str) -> None:
    """Write a small remark above the axes on the left; nothing for an empty one.

    Args:
        ax: the axes.
        text: a phrase or a sentence, which is broken into lines.
    """
    if text:
        ax.set_title(textwrap.fill(text, 64), loc="left", fontsize="x-small", color="0.35")


def limits(values: np.ndarray) -> tuple[float, float]:
    """Return the range of values; half a unit on each side of one that does not vary.

    Args:
        values: at least one, finite.
    """
    low, high = float(np.min(values)), float(np.max(values))
    return (low, high) if high > low else (low - 0.5, high + 0.5)
