"""Plot of every object's responsibilities as bars."""

import numpy as np
from matplotlib.axes import Axes

from mixpyro.diagnostics.plots.style import axes_or_new, colour, legend, plain


def plot_responsibilities(responsibilities: np.ndarray, *, ax: Axes | None = None) -> Axes:
    """Plot the responsibilities of every object as a stacked bar.

    Objects are sorted by most likely component, and within it from the most to the least certain.

    Args:
        responsibilities: [N, K], rows that sum to one.
        ax: axes to draw on; those of a new figure by default.
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
