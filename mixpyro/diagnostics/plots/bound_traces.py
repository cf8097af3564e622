"""How the bound rose, in every restart."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mixpyro.diagnostics.plots.style import COLOURS, axes_or_new, plain
from mixpyro.fitting.result import FitResult


def plot_bound_traces(result: FitResult, *, ax: Axes | None = None) -> Axes:
    """The bound of every restart by iteration: the best in colour, degenerate runs dashed, the others grey.

    The axis leaves out the first steps where they would hide the rest.

    Args:
        result: of :func:`mixpyro.fit`.
        ax: where to draw; a figure of its own by default.
    """
    ax = axes_or_new(ax)
    said: set[str] = set()
    for number, run in enumerate(result.runs):
        best, degenerate = number == result.best, bool(run.degeneracies)
        label = "best" if best else "degenerate" if degenerate else "other restarts"
        look: dict[str, Any] = (
            {"color": COLOURS[1], "linewidth": 2.2, "zorder": 3} if best else {"color": "0.6", "linewidth": 1}
        )
        style = ":" if degenerate else "-"
        finite = np.where(np.isfinite(run.trace), run.trace, np.nan)
        ax.plot(np.arange(1, len(finite) + 1), finite, linestyle=style, label=None if label in said else label, **look)
        if not best:
            ax.plot(len(finite), finite[-1], ".", color="0.45", markersize=5, zorder=2)
        said.add(label)
    ends = np.array([run.bound for run in result.runs if np.isfinite(run.bound)])
    spread = max(float(ends.max() - ends.min()), 0.02 * abs(float(ends.max())), 1.0)
    ax.set(xlabel="Iteration", ylabel="Bound (nats)", ylim=(ends.min() - 0.5 * spread, ends.max() + 0.12 * spread))
    ax.set_xlim(left=1)
    if max(len(run.trace) for run in result.runs) > 60:
        ax.set_xscale("log")
    ax.legend(loc="lower right", frameon=False)
    return plain(ax)
