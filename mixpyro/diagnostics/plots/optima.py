"""Plot of the distinct optima that the restarts ended at."""

import numpy as np
from matplotlib.axes import Axes

from mixpyro import arguments
from mixpyro.diagnostics.plots.style import COLOURS, axes_or_new, checked_axes, note, plain
from mixpyro.fitting.outcomes import Optimum
from mixpyro.fitting.result import FitResult

# Nats below the best, from which on the horizontal axis is logarithmic.
FAR = 50.0


@arguments.with_default_errors
@arguments.outside_contexts
@arguments.checked(n_optima=arguments.size, ax=checked_axes)
def plot_optima(result: FitResult, *, n_optima: int = 10, ax: Axes | None = None) -> Axes:
    """Plot the distinct optima of a fit: their bounds, how many runs reached each, and their smallest shares.

    The best is on top. A full circle is an optimum that runs converged to, an empty one a point where they were given
    up or ran out of iterations, and a cross a degenerate maximum. Its area grows with the number of runs. The text says
    the number of runs and the share of the smallest component. :meth:`~mixpyro.FitResult.optimum` of an optimum's
    number is the result there.

    Args:
        result: of :func:`mixpyro.fit`.
        n_optima: largest number of optima, at least 1.
        ax: axes to draw on; those of a new figure by default.

    Raises:
        TypeError: if it is not of a fit.
        ValueError: if the result has no optima, as that of a stream.
    """
    if not isinstance(result, FitResult):
        raise TypeError(f"`result` must be what `fit` returned; got {type(result).__name__}.")
    optima = result.optima[:n_optima]
    if not optima:
        raise ValueError("`result` must be of a fit by restarts, whose optima are known; got one without.")
    ax = axes_or_new(ax, size=(5.8, 1.3 + 0.34 * len(optima)))
    below = np.array([optima[0].bound - one.bound for one in optima])
    for number, (one, distance) in enumerate(zip(optima, below.tolist(), strict=True)):
        _plot_optimum(ax, number, one, distance, len(result.runs))
    ax.set(yticks=range(len(optima)), ylabel="Optimum", xlabel="Nats below the best bound")
    ax.set_ylim(len(optima) - 0.5, -0.5)
    finite = below[np.isfinite(below)]
    farthest, nearest = float(finite.max()), float(finite.min())
    margin = 0.06 * max(farthest - nearest, 1.0)
    ax.set_xlim(nearest - margin, farthest + margin)
    if farthest > FAR:
        _as_logarithms(ax, farthest)
    more = len(result.optima) - len(optima)
    note(ax, f"best bound {optima[0].bound:.2f} nats" + (f"; {more} more optima are not shown" if more else ""))
    return plain(ax)


def _as_logarithms(ax: Axes, farthest: float) -> None:
    """Give the horizontal axis logarithms beyond 10 nats, and ticks that one can read."""
    ax.set_xscale("symlog", linthresh=10.0, linscale=1.0)
    powers = [10.0**power for power in range(1, 12) if 10.0**power <= 1.2 * farthest]
    shown = [0.0, 5.0, *(step * power for power in powers for step in (1, 2, 5) if step * power <= 1.2 * farthest)]
    shown = shown if len(shown) <= 9 else [0.0, *powers]
    ax.set_xticks(shown, [f"{tick:g}" for tick in shown])
    ax.set_xticks([], minor=True)
    ax.set_xlim(-0.8, 1.25 * farthest)


def _plot_optimum(ax: Axes, number: int, one: Optimum, distance: float, n_runs: int) -> None:
    """Plot one optimum and its text."""
    color = COLOURS[0] if number == 0 else "0.45"
    area = 30.0 + 200.0 * one.n_runs / n_runs
    if one.degeneracies:
        ax.scatter([distance], [number], s=60, marker="x", color=COLOURS[1], zorder=3)
    else:
        face = color if one.converged else "white"
        ax.scatter([distance], [number], s=area, facecolors=face, edgecolors=color, linewidths=1.4, zorder=3)
    ax.axhline(number, color="0.9", linewidth=0.8, zorder=0)
    text = f"{one.n_runs} {'run' if one.n_runs == 1 else 'runs'}"
    text += "" if one.smallest_share is None else f", smallest share {one.smallest_share:.0%}"
    text += ", degenerate" if one.degeneracies else "" if one.converged else ", not converged"
    ax.annotate(text, (1.01, number), xycoords=("axes fraction", "data"), va="center", fontsize="small", color="0.25")
