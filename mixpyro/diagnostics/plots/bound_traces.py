"""Plot of the bound by iteration, for every restart."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mixpyro import arguments
from mixpyro.diagnostics.plots.style import COLOURS, axes_or_new, checked_axes, note, plain
from mixpyro.fitting.result import FitResult

REACHED, OTHER, DEGENERATE = "reached the best bound", "ended elsewhere", "degenerate"
STYLES: dict[str, dict[str, Any]] = {
    REACHED: {"color": COLOURS[0], "linewidth": 1.2, "alpha": 0.8, "zorder": 2},
    OTHER: {"color": "0.6", "linewidth": 1.0, "linestyle": (0, (5, 1)), "zorder": 1},
    DEGENERATE: {"color": COLOURS[1], "linewidth": 1.2, "linestyle": ":", "zorder": 1},
}


@arguments.with_default_errors
@arguments.outside_contexts
@arguments.checked(ax=checked_axes)
def plot_bound_traces(result: FitResult, *, ax: Axes | None = None) -> Axes:
    """Plot by iteration how far the bound of every restart is below the best one.

    The vertical axis is logarithmic, upside down, so that the best is on top: what is closer to it than two runs at one
    optimum may differ is on the dotted line there. Runs that reached it, others and degenerate ones have a style each,
    and the legend says how many they are. A degenerate run is drawn until it exceeds the best bound. The horizontal
    axis is logarithmic where a run has more than 60 iterations.

    Args:
        result: of :func:`mixpyro.fit`.
        ax: axes to draw on; those of a new figure by default.

    Raises:
        TypeError: if it is not of a fit.
    """
    if not isinstance(result, FitResult):
        raise TypeError(f"`result` must be what `fit` returned; got {type(result).__name__}.")
    ax = axes_or_new(ax)
    kinds = [_kind(result, number) for number in range(len(result.runs))]
    for number, kind in enumerate(kinds):
        label = f"{kind} ({kinds.count(kind)})" if kinds.index(kind) == number else None
        _draw_run(ax, result, number, kind, label)
    ax.axhline(result.difference_at_one_optimum, color="0.3", linestyle=":", linewidth=0.8, zorder=0)
    ax.set_yscale("log")
    ax.invert_yaxis()
    ax.set(xlabel="Iteration", ylabel="Nats below the best bound")
    longest = max(len(run.trace) for run in result.runs)
    ax.set_xlim(left=1, right=max(longest, 2))
    if longest > 60:
        ax.set_xscale("log")
    note(ax, f"best bound {result.bound:.2f} nats")
    _add_legend(ax)
    return plain(ax)


def _draw_run(ax: Axes, result: FitResult, number: int, kind: str, label: str | None) -> None:
    """Draw a run's distance from the best bound, and a dot where a run ended elsewhere."""
    run, nearest = result.runs[number], result.difference_at_one_optimum
    distance = result.bound - np.array(run.trace)
    shown = np.where(np.isfinite(distance), np.maximum(distance, nearest), np.nan)
    if run.degeneracies and number != result.best:
        shown[distance < -nearest] = np.nan
    best = {"linewidth": 2.4, "zorder": 3} if number == result.best else {}
    ax.plot(np.arange(1, len(shown) + 1), shown, label=label, **(STYLES[kind] | best))
    if kind == OTHER:
        ax.plot(len(shown), shown[-1], ".", color="0.45", markersize=5, zorder=2)


def _add_legend(ax: Axes) -> None:
    """Add a legend below the axes, with a line for each kind of run."""
    by_label = {str(line.get_label()): line for line in ax.get_lines() if not str(line.get_label()).startswith("_")}
    handles = [by_label[label] for kind in STYLES for label in by_label if label.startswith(kind)]
    ax.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, frameon=False, fontsize="small"
    )


def _kind(result: FitResult, number: int) -> str:
    """Return whether a run is degenerate, reached the best bound, or ended elsewhere."""
    run = result.runs[number]
    if run.degeneracies and number != result.best:
        return DEGENERATE
    reached = number == result.best or abs(run.bound - result.bound) <= result.difference_at_one_optimum
    return REACHED if reached else OTHER
