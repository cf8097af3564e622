"""Plot of three components' responsibilities in a triangle."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mixpyro import arguments
from mixpyro.diagnostics.plots.responsibilities import responsibilities_of
from mixpyro.diagnostics.plots.style import MARKERS, axes_or_new, checked_axes, colour
from mixpyro.fitting.result import FitResult
from mixpyro.shapes import AnyTable, Responsibilities

# Responsibility above which an object is counted as in a corner.
CERTAIN = 0.95
CORNERS = np.array([(0.0, 0.0), (1.0, 0.0), (0.5, np.sqrt(0.75))])


@arguments.with_default_errors
@arguments.outside_contexts
@arguments.checked(ax=checked_axes)
def plot_ternary(result: FitResult | Responsibilities | AnyTable, *, ax: Axes | None = None) -> Axes:
    """Plot objects in the triangle of three components' responsibilities, certain ones in the corners.

    Points in a corner cover each other, so each corner says how many objects have the component as their most likely
    one, and how many of them are in the corner: with a responsibility above 0.95.

    Args:
        result: of :func:`mixpyro.fit`, or responsibilities [N, 3] as an array, tensor or frame, rows that sum to one.
        ax: axes to draw on; those of a new figure by default.

    Raises:
        ValueError: if there are not three components.
    """
    r = responsibilities_of(result)
    if r.shape[1] != 3:
        raise ValueError(
            f"`result` must have three components, for as many corners; got responsibilities {list(r.shape)}. Use "
            "plot_responsibilities for any number of components."
        )
    ax = axes_or_new(ax, size=(4.4, 4.2))
    _plot_triangle(ax)
    points, likeliest = r @ CORNERS, r.argmax(1)
    for k in range(3):
        own = likeliest == k
        options: dict[str, Any] = {"color": colour(k), "marker": MARKERS[k], "zorder": 3, "clip_on": False}
        ax.scatter(points[own, 0], points[own, 1], s=22, alpha=0.6, linewidths=0, **options)
        _label_corner(ax, k, int(own.sum()), int((r[own, k] > CERTAIN).sum()))
    ax.set(xlim=(-0.2, 1.2), ylim=(-0.24, 1.08), aspect="equal")
    ax.axis("off")
    return ax


def _plot_triangle(ax: Axes) -> None:
    """Plot the sides, and lines of equal responsibility at a quarter, a half and three quarters."""
    for share in (0.25, 0.5, 0.75):
        for k in range(3):
            ends = [share * CORNERS[k] + (1 - share) * CORNERS[other] for other in range(3) if other != k]
            ax.plot(*np.transpose(ends), color="0.85", linewidth=0.7, zorder=1)
    ax.plot(*np.vstack([CORNERS, CORNERS[:1]]).T, color="0.3", linewidth=1, zorder=2)


def _label_corner(ax: Axes, k: int, n_likeliest: int, n_certain: int) -> None:
    """Write a component's name and its numbers of objects outside its corner."""
    outward = CORNERS[k] - CORNERS.mean(0)
    x, y = CORNERS[k] + 0.09 * outward / np.linalg.norm(outward)
    text = f"Component {k}\n{n_certain} of {n_likeliest} in the corner"
    ax.text(x, y, text, color=colour(k), ha="center", va="bottom" if k == 2 else "top", fontsize="small")
