"""Plot of the k-hat of every object's leave-one-out estimate."""

import numpy as np
from matplotlib.axes import Axes

from mixpyro.diagnostics.plots.style import COLOURS, axes_or_new, plain
from mixpyro.diagnostics.psis_loo import Elpd


def plot_khat(elpd: Elpd, *, n_named: int = 3, ax: Axes | None = None) -> Axes:
    """Plot k-hat by object, and a line at the largest reliable value.

    The worst objects above the line are labelled by their numbers.

    Args:
        elpd: result of :func:`mixpyro.diagnostics.loo`.
        n_named: largest number of objects with numbers, at least 0.
        ax: axes to draw on; those of a new figure by default.
    """
    ax = axes_or_new(ax)
    k = np.where(np.isfinite(elpd.pareto_k), elpd.pareto_k, np.nan)
    bad, objects = k > elpd.good_k, np.arange(len(k))
    ax.plot(objects[~bad], k[~bad], "o", color=COLOURS[0], markersize=4, alpha=0.7, markeredgewidth=0)
    ax.plot(objects[bad], k[bad], "D", color=COLOURS[1], markersize=5, markeredgewidth=0)
    _plot_limit(ax, elpd.good_k)
    if np.isfinite(k).any():
        low, high = min(float(np.nanmin(k)), elpd.good_k), max(float(np.nanmax(k)), elpd.good_k)
        ax.set_ylim(low - 0.08 * (high - low), high + 0.12 * (high - low))
    worst_first = np.argsort(-np.nan_to_num(k, nan=-np.inf)).tolist()
    for number in _apart(k, [number for number in worst_first if bad[number]], n_named):
        ax.annotate(str(number), (number, k[number]), xytext=(6, 0), textcoords="offset points", va="center")
    ax.set(xlabel="Object", ylabel=r"Pareto $\hat{k}$", xlim=(-0.02 * len(k), 1.02 * len(k)))
    return plain(ax)


def _plot_limit(ax: Axes, good_k: float) -> None:
    """Plot the largest reliable k-hat as a dashed line with its value on the right."""
    ax.axhline(good_k, color="0.3", linestyle="--", linewidth=1)
    ax.annotate(
        f"{good_k:.2f}",
        (1.0, good_k),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        color="0.3",
    )


def _apart(k: np.ndarray, worst: list[int], n_named: int) -> list[int]:
    """Return the worst objects whose numbers do not overlap in the plot."""
    named: list[int] = []
    for one in worst:
        near = [abs(one - other) < 0.1 * len(k) and abs(k[one] - k[other]) < 0.06 * np.ptp(k) for other in named]
        if not any(near) and len(named) < n_named:
            named.append(one)
    return named
