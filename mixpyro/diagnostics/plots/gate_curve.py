"""Plot of the gate's weights along one input."""

import numpy as np
from matplotlib.axes import Axes

from mixpyro.diagnostics.arviz_versions import ArvizData
from mixpyro.diagnostics.made_from import mixture_of
from mixpyro.diagnostics.plots.grid import Grid, grid, has_draws, some_draws
from mixpyro.diagnostics.plots.style import axes_or_new, colour, dashes, legend, plain
from mixpyro.fitting.result import FitResult
from mixpyro.mixture import MixtureOfExperts


def plot_gate_curve(
    data: ArvizData,
    fitted: FitResult | MixtureOfExperts,
    *,
    feature: int = 0,
    n_points: int = 150,
    probability: float = 0.9,
    ax: Axes | None = None,
) -> Axes:
    """Plot the weights of new objects along one of the gate's inputs, with credible bands.

    The other inputs are at their medians. There are bands where the gate's parameters have draws, as estimated ones
    have by linear response.

    Args:
        data: result of :func:`mixpyro.to_arviz`.
        fitted: the fit or mixture that ``data`` was made from.
        feature: number of the column that the gate reads, from 0.
        n_points: number of points of each curve, at least 2.
        probability: of the bands, above 0 and below 1.
        ax: axes to draw on; those of a new figure by default.

    Raises:
        ValueError: if the gate reads no such column, or ``data`` are of another fit.
    """
    ax = axes_or_new(ax)
    mixture = mixture_of(data, fitted)
    points = grid(data, [feature], n_points, of_gate=True)
    weights, x = gate_weights(data, mixture, points), points.values[0]
    low, high = np.quantile(weights, [0.5 - 0.5 * probability, 0.5 + 0.5 * probability], axis=0)
    with_bands = has_draws(data, mixture.gate.site(""))
    for k in range(mixture.n_components):
        ax.plot(x, weights[..., k].mean(0), color=colour(k), linestyle=dashes(k), linewidth=2, label=str(k))
        if with_bands:
            ax.fill_between(x, low[:, k], high[:, k], color=colour(k), alpha=0.18, linewidth=0)
    ax.set(xlabel=points.labels[0], ylabel="Gate weight", ylim=(0, 1), xlim=(x[0], x[-1]))
    legend(ax, mixture.n_components)
    return plain(ax)


def gate_weights(data: ArvizData, mixture: MixtureOfExperts, points: Grid, *, most_draws: int = 500) -> np.ndarray:
    """Return weights of new objects on a grid at some draws [S, G, K].

    Args:
        data: result of :func:`mixpyro.to_arviz`.
        mixture: that the draws are from.
        points: grid of G rows.
        most_draws: as for :func:`~mixpyro.diagnostics.plots.grid.some_draws`.
    """
    shape = len(points.gate_x), mixture.n_components
    weights = [
        model.log_weights.softmax(-1).expand(n_draws, *shape).double().cpu().numpy()
        for model, n_draws in some_draws(data, mixture, points, most_draws=most_draws)
    ]
    return np.concatenate(weights)
