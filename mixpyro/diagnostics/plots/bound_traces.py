"""Plot of the bound by iteration, for every restart."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mixpyro.diagnostics.plots.style import COLOURS, axes_or_new, plain
from mixpyro.fitting.outcomes import Run
from mixpyro.fitting.result import FitResult

BEST: dict[str, Any] = {"color": COLOURS[1], "linewidth": 2.2, "zorder": 3}
OTHER: dict[str, Any] = {"color": "0.6", "linewidth": 1}


def plot_bound_traces(result: FitResult, *, ax: Axes | None = None) -> Axes:
    """Plot the bound of every restart by iteration.

    The best run is coloured, and degenerate runs are dotted.
    The vertical axis is cut where the first iterations would hide differences between the runs' ends. The horizontal
    axis is logarithmic where a run has more than 60 iterations.

    Args:
        result: result of :func:`mixpyro.fit`.
        ax: axes to draw on; those of a new figure by default.
    """
    ax = axes_or_new(ax)
    labelled: set[str] = set()
    for number, run in enumerate(result.runs):
        label = "best" if number == result.best else "degenerate" if run.degeneracies else "other restarts"
        _plot_run(ax, run, is_best=number == result.best, label=None if label in labelled else label)
        labelled.add(label)
    ends = np.array([run.bound for run in result.runs if np.isfinite(run.bound)])
    spread = max(float(ends.max() - ends.min()), 0.02 * abs(float(ends.max())), 1.0)
    ax.set(xlabel="Iteration", ylabel="Bound (nats)", ylim=(ends.min() - 0.5 * spread, ends.max() + 0.12 * spread))
    ax.set_xlim(left=1)
    if max(len(run.trace) for run in result.runs) > 60:
        ax.set_xscale("log")
    ax.legend(loc="lower right", frameon=False)
    return plain(ax)


def _plot_run(ax: Axes, run: Run, *, is_best: bool, label: str | None) -> None:
    """Plot one run, with a dot at its end unless it is the best."""
    finite = np.where(np.isfinite(run.trace), run.trace, np.nan)
    line_style = ":" if run.degeneracies else "-"
    ax.plot(np.arange(1, len(finite) + 1), finite, linestyle=line_style, label=label, **(BEST if is_best else OTHER))
    if not is_best:
        ax.plot(len(finite), finite[-1], ".", color="0.45", markersize=5, zorder=2)
