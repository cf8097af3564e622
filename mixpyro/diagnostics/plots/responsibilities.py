"""Plot of every object's responsibilities as bars."""

import numpy as np
from matplotlib.axes import Axes

from mixpyro import arguments
from mixpyro.diagnostics.plots.source import as_array
from mixpyro.diagnostics.plots.style import axes_or_new, checked_axes, colour, legend, plain
from mixpyro.fitting.result import FitResult
from mixpyro.shapes import AnyTable, Responsibilities


@arguments.with_default_errors
@arguments.outside_contexts
@arguments.checked(ax=checked_axes)
def plot_responsibilities(result: FitResult | Responsibilities | AnyTable, *, ax: Axes | None = None) -> Axes:
    """Plot the responsibilities of every object as a stacked bar.

    Objects are sorted by most likely component, and within it from the most to the least certain.

    Args:
        result: of :func:`mixpyro.fit`, or responsibilities [N, K] as an array, tensor or frame, rows that sum to one.
        ax: axes to draw on; those of a new figure by default.

    Raises:
        ValueError: if they are not [N, K].
    """
    r = responsibilities_of(result)
    ax = axes_or_new(ax, size=(6.5, 2.8))
    order = np.lexsort((-r.max(1), r.argmax(1)))
    bottom, positions = np.zeros(len(r)), np.arange(len(r) + 1)
    for k in range(r.shape[1]):
        top = bottom + r[order, k]
        ax.stairs(top, positions, baseline=bottom, fill=True, color=colour(k), linewidth=0, label=str(k))
        bottom = top
    ax.set(xlim=(0, len(r)), ylim=(0, 1), xlabel="Objects, by likeliest component", ylabel="Responsibility")
    legend(ax, r.shape[1])
    return plain(ax)


def responsibilities_of(result: object) -> np.ndarray:
    """Return responsibilities [N, K] as an array.

    Args:
        result: of a fit, or the responsibilities.

    Raises:
        TypeError: if they are something else.
        ValueError: if they are not [N, K].
    """
    if isinstance(result, FitResult):
        return as_array(result.shares)
    if not hasattr(result, "__array__") and not isinstance(result, list | tuple):
        raise TypeError(
            f"`result` must be what `fit` returned, or responsibilities [N, K]; got {type(result).__name__}."
        )
    r = arguments.of_numbers("result", result).astype(np.float64)
    if r.ndim != 2:
        raise ValueError(f"`result` must be what `fit` returned, or responsibilities [N, K]; got {list(r.shape)}.")
    return r
