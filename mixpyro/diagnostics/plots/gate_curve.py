"""Plot of the gate's weights along one input."""

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from mixpyro import arguments
from mixpyro.diagnostics.arviz_versions import ArvizData
from mixpyro.diagnostics.plots.grid import gate_grid
from mixpyro.diagnostics.plots.source import Source, as_array, source_of
from mixpyro.diagnostics.plots.style import axes_or_new, checked_axes, colour, dashes, legend, note, plain, points
from mixpyro.fitting.result import FitResult
from mixpyro.mixture import MixtureOfExperts

# Rows beyond which they are not marked: their marks would be one black line.
MOST_ROWS = 1000
NO_BANDS = "no bands: the gate's parameters are estimates without standard errors"


@arguments.with_default_errors
@arguments.outside_contexts
@arguments.checked(n_points=points, probability=arguments.probability, ax=checked_axes)
def plot_gate_curve(
    result: FitResult | MixtureOfExperts | ArvizData,
    fitted: FitResult | MixtureOfExperts | None = None,
    *,
    data: ArvizData | None = None,
    feature: int | str = 0,
    n_points: int = 301,
    probability: float = 0.9,
    ax: Axes | None = None,
) -> Axes:
    """Plot the weights of new objects along one of the gate's inputs, with credible bands.

    Lines are the fit's weights, or the means of the draws where ``data`` are given. The gate's other inputs are at
    their medians. Bands are by linear response where the fit has one; a line above the axes says where they are not, or
    where there are none.

    Args:
        result: of :func:`mixpyro.fit`; a mixture with ``data``; or the data, followed by the fit.
        fitted: the fit or mixture where the data come first.
        data: result of :func:`mixpyro.to_arviz`, to take draws from; they are made here without.
        feature: number of the column that the gate reads, from 0, or its name.
        n_points: number of points of each curve, at least 2.
        probability: of the bands, above 0 and below 1.
        ax: axes to draw on; those of a new figure by default.

    Raises:
        TypeError: if an argument is none of these.
        ValueError: if the gate reads no such column, or ``data`` are of another fit.
    """
    source = source_of(result, fitted, data)
    return draw_gate_curve(source, feature, n_points, probability, axes_or_new(ax))


def draw_gate_curve(source: Source, feature: int | str, n_points: int, probability: float, ax: Axes) -> Axes:
    """Draw what :func:`plot_gate_curve` plots.

    Args:
        source: the fit.
        feature: number or name of the column.
        n_points: of each curve.
        probability: of the bands.
        ax: the axes.
    """
    points = gate_grid(source, [feature], n_points)
    x, lines = points.values[0], gate_weights(source, points.gate_x)
    draws = gate_weight_draws(source, points.gate_x) if source.draws.of_gate() else None
    for k in range(source.mixture.n_components):
        ax.plot(x, lines[:, k], color=colour(k), linestyle=dashes(k), linewidth=2, label=str(k))
        if draws is not None:
            low, high = np.quantile(draws[..., k], [0.5 - 0.5 * probability, 0.5 + 0.5 * probability], axis=0)
            ax.fill_between(x, low, high, color=colour(k), alpha=0.18, linewidth=0)
    _plot_rug(ax, as_array(source.gate_x)[:, source.column(feature, of_gate=True)])
    ax.set(xlabel=points.labels[0], ylabel="Gate weight", ylim=(0, 1), xlim=(x[0], x[-1]))
    note(ax, "; ".join(part for part in (points.held, NO_BANDS if draws is None else source.draws.remark) if part))
    legend(ax, source.mixture.n_components)
    return plain(ax)


def _plot_rug(ax: Axes, x: np.ndarray) -> None:
    """Mark where the rows are, so that one sees where the curves extrapolate."""
    if len(x) <= MOST_ROWS:
        ax.plot(x, np.full(len(x), 0.012), "|", color="0.2", alpha=0.4, markersize=6, markeredgewidth=0.7, zorder=1)


@torch.no_grad()
def gate_weights(source: Source, gate_x: Tensor, *, most_draws: int = 500) -> np.ndarray:
    """Return the weights of new objects [M, K]: the fit's, or the mean of the caller's draws.

    Args:
        source: the fit.
        gate_x: what the gate reads [M, G].
        most_draws: twice this number are used at most.
    """
    if source.draws.were_given:
        return np.asarray(gate_weight_draws(source, gate_x, most_draws=most_draws).mean(0))
    return as_array(source.mixture.gate.weights(gate_x))


def gate_weight_draws(source: Source, gate_x: Tensor, *, most_draws: int = 500) -> np.ndarray:
    """Return the weights of new objects at draws of the parameters [S, M, K].

    Args:
        source: the fit.
        gate_x: what the gate reads [M, G].
        most_draws: twice this number are used at most.
    """
    x = source.mixture.experts.check_inputs(source.rows.x[:1])
    shape = len(gate_x), source.mixture.n_components
    weights = [
        as_array(model.log_weights.softmax(-1).expand(n_draws, *shape))
        for model, n_draws in source.draws.models(x, gate_x, most_draws)
    ]
    return np.concatenate(weights)
