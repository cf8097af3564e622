"""Three fitted lines with draws for ArviZ, and what the tests of plots read off the axes."""

from typing import Any

from matplotlib.axes import Axes

from mixpyro import to_arviz
from tests.diagnostics.fits import fitted

RESULT, X, Y = fitted("dirichlet", 3)
DATA = to_arviz(RESULT, X, Y, n_draws=60, feature_names=["dose"], output_names=["yield"])


def lines_by_label(ax: Axes) -> dict[str, Any]:
    """Return the lines on the axes by their labels."""
    return {str(line.get_label()): line for line in ax.get_lines()}


def remark(ax: Axes) -> str:
    """Return the small remark above the axes, on one line."""
    return ax.get_title(loc="left").replace("\n", " ")
