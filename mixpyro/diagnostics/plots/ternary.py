"""Plot of three components' responsibilities in a triangle."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mixpyro.diagnostics.plots.style import MARKERS, axes_or_new, colour

CORNERS = np.array([(0.0, 0.0), (1.0, 0.0), (0.5, np.sqrt(0.75))])


def plot_ternary(responsibilities: np.ndarray, *, ax: Axes | None = None) -> Axes:
    """Plot objects in the triangle of three components' responsibilities, certain ones in the corners.

    Args:
        responsibilities: [N, 3], rows that sum to one.
        ax: axes to draw on; those of a new figure by default.

    Raises:
        ValueError: if there are not three components.
    """
    r = np.asarray(responsibilities, dtype=np.float64)
    if r.ndim != 2 or r.shape[1] != 3:
        raise ValueError(f"`responsibilities` must be [N, 3]; got {list(r.shape)}. Use plot_responsibilities.")
    ax = axes_or_new(ax, size=(4.2, 3.8))
    _plot_triangle(ax)
    points, likeliest = r @ CORNERS, r.argmax(1)
    for k in range(3):
        x, y = points[likeliest == k].T
        options: dict[str, Any] = {"color": colour(k), "marker": MARKERS[k], "zorder": 3, "clip_on": False}
        ax.scatter(x, y, s=22, alpha=0.6, linewidths=0, **options)
        _label_corner(ax, k)
    ax.set(xlim=(-0.16, 1.16), ylim=(-0.14, 1.0), aspect="equal")
    ax.axis("off")
    return ax


def _plot_triangle(ax: Axes) -> None:
    """Plot the sides, and lines of equal responsibility at a quarter, a half and three quarters."""
    for share in (0.25, 0.5, 0.75):
        for k in range(3):
            ends = [share * CORNERS[k] + (1 - share) * CORNERS[other] for other in range(3) if other != k]
            ax.plot(*np.transpose(ends), color="0.85", linewidth=0.7, zorder=1)
    ax.plot(*np.vstack([CORNERS, CORNERS[:1]]).T, color="0.3", linewidth=1, zorder=2)


def _label_corner(ax: Axes, k: int) -> None:
    """Write a component's name outside its corner."""
    outward = CORNERS[k] - CORNERS.mean(0)
    x, y = CORNERS[k] + 0.09 * outward / np.linalg.norm(outward)
    ax.text(x, y, f"Component {k}", color=colour(k), ha="center", va="bottom" if k == 2 else "top")
