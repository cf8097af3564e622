"""Plot of the k-hat of every object's leave-one-out estimate."""

import numpy as np
from matplotlib.axes import Axes

from mixpyro import arguments
from mixpyro.diagnostics.arviz_versions import ArvizData
from mixpyro.diagnostics.conversion import to_arviz
from mixpyro.diagnostics.plots.source import is_arviz
from mixpyro.diagnostics.plots.style import COLOURS, axes_or_new, checked_axes, plain
from mixpyro.diagnostics.psis_loo import Elpd, loo
from mixpyro.fitting.result import FitResult


@arguments.with_default_errors
@arguments.outside_contexts
@arguments.checked(n_named=arguments.index, ax=checked_axes)
def plot_khat(
    result: Elpd | FitResult | ArvizData, *, data: ArvizData | None = None, n_named: int = 3, ax: Axes | None = None
) -> Axes:
    """Plot k-hat by object, and a line at the largest reliable value.

    The worst objects above the line are labelled by their numbers.

    Args:
        result: of :func:`mixpyro.diagnostics.loo`, or of :func:`mixpyro.fit`, for which leave-one-out is estimated here
            from 1,000 draws; or what :func:`mixpyro.to_arviz` returned.
        data: result of :func:`mixpyro.to_arviz`, for a fit.
        n_named: largest number of objects with numbers, at least 0.
        ax: axes to draw on; those of a new figure by default.

    Raises:
        TypeError: if ``result`` is none of these.
        ValueError: if a fit has no leave-one-out estimate, as with known components or missing outputs.
    """
    elpd = _elpd(result, data)
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


def _elpd(result: object, data: ArvizData | None) -> Elpd:
    """Return the leave-one-out estimate of a fit or of ArviZ data, or the one given."""
    if isinstance(result, Elpd):
        return result
    if is_arviz(result):
        return loo(result)
    if not isinstance(result, FitResult):
        raise TypeError(f"`result` must be what `loo` or `fit` returned; got {type(result).__name__}.")
    if data is None:
        data = to_arviz(result, leave_out=("posterior_predictive", "prior_predictive"), progress=False)
    return loo(data)


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
