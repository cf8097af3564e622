"""Plot of the mixture's weights with their intervals."""

import numpy as np
from matplotlib.axes import Axes

from mixpyro.diagnostics.arviz_versions import ArvizData, group
from mixpyro.diagnostics.plots.style import axes_or_new, colour, plain


def plot_weights_forest(data: ArvizData, *, site: str = "gate.weights", ax: Axes | None = None) -> Axes:
    """Plot every component's weight with its intervals.

    A circle is the mean of the draws, a thick line their central 50 %, a thin line their central 90 %, and a grey mark
    the prior mean.

    Args:
        data: result of :func:`mixpyro.to_arviz`, for a gate whose weights all objects share.
        site: name of the weights.
        ax: axes to draw on; those of a new figure by default.

    Raises:
        ValueError: if there are no such draws, or they are of single objects.
    """
    posterior = group(data, "posterior")
    if site not in posterior or posterior[site].ndim != 3:
        raise ValueError(
            f"`data` must have draws of {site!r} that all objects share; got none. "
            "Of a gate whose weights depend on x, plot `plot_gate_curve` or `plot_gate_map`."
        )
    draws = posterior[site].values.reshape(-1, posterior[site].shape[-1])
    ax = axes_or_new(ax, size=(5.0, 0.9 + 0.32 * draws.shape[1]))
    quantiles = np.quantile(draws, [0.05, 0.25, 0.75, 0.95], axis=0)
    for k, (low, lower, upper, high) in enumerate(quantiles.T):
        ax.hlines(k, low, high, color=colour(k), linewidth=1.5)
        ax.hlines(k, lower, upper, color=colour(k), linewidth=5)
        ax.plot(draws[:, k].mean(), k, "o", color="white", markeredgecolor=colour(k), markersize=7, markeredgewidth=1.8)
    prior = group(data, "prior")[site].values.reshape(-1, draws.shape[1]).mean(0)
    ax.plot(prior, np.arange(len(prior)), "|", color="0.4", markersize=11)
    ax.set(
        yticks=range(draws.shape[1]),
        xlabel="Weight (grey marks: prior means)",
        ylabel="Component",
        ylim=(draws.shape[1] - 0.5, -0.5),
    )
    ax.set_xlim(-0.012, min(1.0, 1.08 * max(quantiles.max(), prior.max())))
    return plain(ax)
