"""Plot of the mixture's weights with their intervals."""

import numpy as np
from matplotlib.axes import Axes

from mixpyro import arguments
from mixpyro.diagnostics.arviz_versions import ArvizData, group
from mixpyro.diagnostics.plots.gate_curve import gate_weight_draws, gate_weights
from mixpyro.diagnostics.plots.prior_weights import prior_mean_weights
from mixpyro.diagnostics.plots.source import Source, is_arviz, source_of
from mixpyro.diagnostics.plots.style import axes_or_new, checked_axes, colour, note, plain
from mixpyro.fitting.result import FitResult
from mixpyro.mixture import MixtureOfExperts

# Rows that weights which depend on x are averaged over: of more, that many, evenly spaced.
MOST_ROWS = 400


@arguments.with_default_errors
@arguments.outside_contexts
@arguments.checked(ax=checked_axes)
def plot_weights_forest(
    result: FitResult | MixtureOfExperts | ArvizData,
    fitted: FitResult | MixtureOfExperts | None = None,
    *,
    data: ArvizData | None = None,
    site: str = "gate.weights",
    ax: Axes | None = None,
) -> Axes:
    """Plot every component's weight with its intervals.

    A circle is the weight, a thick line its central 50 % interval, a thin line its central 90 %, and a grey mark the
    mean of the gate's prior, exact. Of a gate that reads inputs it is the average weight over the rows, without a prior
    mean.

    Args:
        result: of :func:`mixpyro.fit`; a mixture with ``data``; or the data, alone or followed by the fit. Of the data
            alone, circles and marks are means of draws.
        fitted: the fit or mixture where the data come first.
        data: result of :func:`mixpyro.to_arviz`, to take draws from; they are made here without.
        site: name of the weights, where the data are given alone.
        ax: axes to draw on; those of a new figure by default.

    Raises:
        TypeError: if an argument is none of these.
        ValueError: if the data alone have no such draws, or they are of single objects.
    """
    if is_arviz(result) and fitted is None:
        return _draw_site(result, site, ax)
    source = source_of(result, fitted, data)
    return draw_weights_forest(source, axes_or_new(ax, size=_size(source.mixture.n_components)))


def draw_weights_forest(source: Source, ax: Axes) -> Axes:
    """Draw what :func:`plot_weights_forest` plots of a fit.

    Args:
        source: the fit.
        ax: the axes.
    """
    gate, n_rows = source.mixture.gate, len(source.gate_x)
    gate_x = source.gate_x[:: max(1, n_rows // MOST_ROWS)] if gate.reads_inputs else source.gate_x[:1]
    draws = gate_weight_draws(source, gate_x, most_draws=150).mean(1) if source.draws.of_gate() else None
    prior = None if gate.reads_inputs else prior_mean_weights(gate)
    _draw(ax, gate_weights(source, gate_x).mean(0), draws, prior, "Average weight over the rows" * gate.reads_inputs)
    note(ax, source.draws.remark if draws is not None else "no intervals: the gate's weights have no posterior")
    return plain(ax)


def _draw_site(data: ArvizData, site: str, ax: Axes | None) -> Axes:
    """Plot draws of a site of ArviZ data that are given alone."""
    posterior = group(data, "posterior")
    if site not in posterior or posterior[site].ndim != 3:
        raise ValueError(
            f"`data` must have draws of {site!r} that all objects share; got none. "
            "Pass the fit too, plot_weights_forest(result, data=data), for average weights, or of a gate whose weights "
            "depend on x, plot `plot_gate_curve` or `plot_gate_map`."
        )
    draws = posterior[site].values.reshape(-1, posterior[site].shape[-1])
    prior = group(data, "prior")[site].values.reshape(-1, draws.shape[1]).mean(0)
    ax = axes_or_new(ax, size=_size(draws.shape[1]))
    _draw(ax, draws.mean(0), draws, prior, "")
    return plain(ax)


def _draw(ax: Axes, weights: np.ndarray, draws: np.ndarray | None, prior: np.ndarray | None, label: str) -> None:
    """Draw weights [K], the quantiles of their draws [S, K], and marks at the prior's means [K]."""
    highest = float(weights.max())
    for k, weight in enumerate(weights.tolist()):
        if draws is not None:
            low, lower, upper, high = np.quantile(draws[:, k], [0.05, 0.25, 0.75, 0.95])
            ax.hlines(k, low, high, color=colour(k), linewidth=1.5)
            ax.hlines(k, lower, upper, color=colour(k), linewidth=5)
            highest = max(highest, float(high))
        ax.plot(weight, k, "o", color="white", markeredgecolor=colour(k), markersize=7, markeredgewidth=1.8)
    if prior is not None:
        ax.plot(prior, np.arange(len(prior)), "|", color="0.4", markersize=11)
        highest = max(highest, float(prior.max()))
    ax.set(
        yticks=range(len(weights)),
        xlabel=label or ("Weight" if prior is None else "Weight (grey marks: prior means)"),
        ylabel="Component",
        ylim=(len(weights) - 0.5, -0.5),
    )
    ax.set_xlim(-0.012, min(1.03, 1.08 * highest))


def _size(n_components: int) -> tuple[float, float]:
    """Return width and height of a new figure in inches."""
    return 5.0, 1.1 + 0.32 * n_components
