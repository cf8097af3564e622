"""Every object's responsibilities: as bars, or for three components in a triangle."""

import numpy as np
from matplotlib.axes import Axes

from mixpyro.diagnostics.plots.style import MARKERS, axes_or_new, colour, legend, plain


def plot_responsibilities(responsibilities: np.ndarray, *, ax: Axes | None = None) -> Axes:
    """A bar an object, of its responsibilities; objects stand by likeliest component, the sure ones first.

    Args:
        responsibilities: [N, K], rows that sum to one.
        ax: where to draw; a figure of its own by default.
    """
    ax = axes_or_new(ax, size=(6.5, 2.8))
    r = np.asarray(responsibilities, dtype=np.float64)
    order = np.lexsort((-r.max(1), r.argmax(1)))
    bottom, positions = np.zeros(len(r)), np.arange(len(r) + 1)
    for k in range(r.shape[1]):
        top = bottom + r[order, k]
        ax.stairs(top, positions, baseline=bottom, fill=True, color=colour(k), linewidth=0, label=str(k))
        bottom = top
    ax.set(xlim=(0, len(r)), ylim=(0, 1), xlabel="Objects, by likeliest component", ylabel="Responsibility")
    legend(ax, r.shape[1])
    return plain(ax)


def plot_ternary(responsibilities: np.ndarray, *, ax: Axes | None = None) -> Axes:
    """Objects in the triangle of three components' responsibilities: sure ones in the corners.

    Args:
        responsibilities: [N, 3], rows that sum to one.
        ax: where to draw; a figure of its own by default.

    Raises:
        ValueError: if there are not three components.
    """
    r = np.asarray(responsibilities, dtype=np.float64)
    if r.ndim != 2 or r.shape[1] != 3:
        raise ValueError(f"`responsibilities` must be [N, 3]; got {list(r.shape)}. Use plot_responsibilities.")
    ax = axes_or_new(ax, size=(4.2, 3.8))
    corners = np.array([(0.0, 0.0), (1.0, 0.0), (0.5, np.sqrt(0.75))])
    for share in (0.25, 0.5, 0.75):
        for k in range(3):
            ends = [share * corners[k] + (1 - share) * corners[other] for other in range(3) if other != k]
            ax.plot(*np.transpose(ends), color="0.85", linewidth=0.7, zorder=1)
    ax.plot(*np.vstack([corners, corners[:1]]).T, color="0.3", linewidth=1, zorder=2)
    points, likeliest = r @ corners, r.argmax(1)
    for k in range(3):
        chosen = points[likeliest == k]
        ax.scatter(
            chosen[:, 0],
            chosen[:, 1],
            color=colour(k),
            marker=MARKERS[k],
            s=22,
            alpha=0.6,
            linewidths=0,
            zorder=3,
            clip_on=False,
        )
        outward = corners[k] + 0.09 * (corners[k] - corners.mean(0)) / np.linalg.norm(corners[k] - corners.mean(0))
        ax.text(
            outward[0], outward[1], f"Component {k}", color=colour(k), ha="center", va="bottom" if k == 2 else "top"
        )
    ax.set(xlim=(-0.16, 1.16), ylim=(-0.14, 1.0), aspect="equal")
    ax.axis("off")
    return ax
