"""k-hat of every object's leave-one-out estimate."""

import numpy as np
from matplotlib.axes import Axes

from mixpyro.diagnostics.plots.style import COLOURS, axes_or_new, plain
from mixpyro.diagnostics.psis_loo import Elpd


def plot_khat(elpd: Elpd, *, n_named: int = 3, ax: Axes | None = None) -> Axes:
    """k-hat by object, with the line above which an estimate is not to be trusted; the worst beyond it have numbers.

    Args:
        elpd: of :func:`mixpyro.diagnostics.loo`.
        n_named: at most how many objects get their numbers.
        ax: where to draw; a figure of its own by default.
    """
    ax = axes_or_new(ax)
    k = np.where(np.isfinite(elpd.pareto_k), elpd.pareto_k, np.nan)
    bad, objects = k > elpd.good_k, np.arange(len(k))
    ax.plot(objects[~bad], k[~bad], "o", color=COLOURS[0], markersize=4, alpha=0.7, markeredgewidth=0)
    ax.plot(objects[bad], k[bad], "D", color=COLOURS[1], markersize=5, markeredgewidth=0)
    ax.axhline(elpd.good_k, color="0.3", linestyle="--", linewidth=1)
    ax.annotate(
        f"{elpd.good_k:.2f}",
        (1.0, elpd.good_k),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        color="0.3",
    )
    if np.isfinite(k).any():
        low, high = min(float(np.nanmin(k)), elpd.good_k), max(float(np.nanmax(k)), elpd.good_k)
        ax.set_ylim(low - 0.08 * (high - low), high + 0.12 * (high - low))
    for one in _apart(k, [one for one in np.argsort(-np.nan_to_num(k, nan=-np.inf)).tolist() if bad[one]], n_named):
        ax.annotate(str(one), (one, k[one]), xytext=(6, 0), textcoords="offset points", va="center")
    ax.set(xlabel="Object", ylabel=r"Pareto $\hat{k}$", xlim=(-0.02 * len(k), 1.02 * len(k)))
    return plain(ax)


def _apart(k: np.ndarray, worst: list[int], n_named: int) -> list[int]:
    """The worst objects that leave room for each other's numbers."""
    found: list[int] = []
    for one in worst:
        near = [abs(one - other) < 0.1 * len(k) and abs(k[one] - k[other]) < 0.06 * np.ptp(k) for other in found]
        if not any(near) and len(found) < n_named:
            found.append(one)
    return found
