"""Plot of the predictive density of y and each component's share of it."""

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mixpyro import arguments
from mixpyro.diagnostics.arviz_versions import ArvizData
from mixpyro.diagnostics.observations import Observations
from mixpyro.diagnostics.plots.output_densities import log_density
from mixpyro.diagnostics.plots.source import PlottedRows, Source, as_array, is_arviz, source_of
from mixpyro.diagnostics.plots.style import (
    axes_or_new,
    checked_axes,
    colour,
    dashes,
    drawn,
    label,
    legend,
    limits,
    plain,
    points,
)
from mixpyro.fitting.reads_rows import reads_rows
from mixpyro.fitting.result import FitResult
from mixpyro.groups import GroupIds
from mixpyro.mixture import MixtureOfExperts
from mixpyro.shapes import AnyTable, GateInputs, Inputs, Targets

# Rows that densities are averaged over: of more, that many, evenly spaced.
MOST_ROWS = 2000
# Whole numbers with a bar each; of more, probabilities are drawn as lines.
MOST_BARS = 60


@arguments.with_default_errors
@arguments.outside_contexts
@arguments.checked(output_name=label, n_points=points, ax=checked_axes)
def plot_component_densities(
    result: FitResult | MixtureOfExperts | ArvizData,
    x: Inputs | AnyTable | FitResult | MixtureOfExperts = None,
    y: Targets | AnyTable = None,
    *,
    data: ArvizData | None = None,
    gate_x: GateInputs | AnyTable = None,
    groups: GroupIds | None = None,
    output: int | str = 0,
    output_name: str | None = None,
    n_points: int = 300,
    ax: Axes | None = None,
) -> Axes:
    """Plot the predictive density of y and each component's share of it, over a histogram of the data.

    These are the model's densities, averaged over the rows' inputs: of more than 2,000 rows over so many, evenly
    spaced. Of counts and categories they are probabilities as bars, one component on top of the other, and the data are
    circles. Of more than 60 different counts they are lines, on a square-root scale as in rootograms (Kleiber, Zeileis
    2016, The American Statistician 70). Other outputs are integrated out.

    Args:
        result: of :func:`mixpyro.fit`, or a mixture with ``x`` and ``y`` or ``data``.
        x: inputs [N, D], where they are not the rows of the fit.
        y: outputs [N, P] or [N], with ``x``.
        data: result of :func:`mixpyro.to_arviz`, to take rows and names from.
        gate_x: what the gate reads [N, G], with ``x``, where that is not x.
        groups: an id of the group of each row [N], with ``x``; those of a fit by default.
        output: number of the column of y, from 0, or its name.
        output_name: label of the horizontal axis, of at most 1,000 letters; the column's name by default.
        n_points: number of points of each curve, at least 2.
        ax: axes to draw on; those of a new figure by default.

    Raises:
        TypeError: if an argument is none of these, or the family has no density of a single output.
        ValueError: if y has no such column, or the rows do not fit the mixture.
    """
    if x is None or isinstance(x, FitResult | MixtureOfExperts) or is_arviz(x):
        source = source_of(result, x, data)
    else:
        source = _of_rows(result, x, y, gate_x=gate_x, groups=groups)
    return draw_component_densities(source, output, output_name, n_points, axes_or_new(ax))


def draw_component_densities(
    source: Source, output: int | str, output_name: str | None, n_points: int, ax: Axes
) -> Axes:
    """Draw what :func:`plot_component_densities` plots.

    Args:
        source: the fit.
        output: number or name of the column of y.
        output_name: label of the horizontal axis, or None.
        n_points: of each curve.
        ax: the axes.
    """
    number = source.output(output)
    y = source.y[:, number]
    known = np.isfinite(y)
    if not known.any():
        raise ValueError("`y` must have an outcome that was observed; got none.")
    y, weights = y[known], source.weights[known]
    is_count = source.mixture.experts.discrete_outputs[number]
    points = _points(source, y, n_points, is_count)
    curves = _densities(source, points, number)
    if is_count and len(points) <= MOST_BARS:
        _plot_bars(ax, points, curves, y, weights)
    else:
        _plot_curves(ax, points, curves, y, weights, is_count)
    ax.set(xlabel=output_name or drawn(source.rows.y_names[number]), ylabel="Probability" if is_count else "Density")
    if is_count and len(points) > MOST_BARS:
        # As in rootograms: else the probabilities of large counts cannot be told from zero.
        ax.set_yscale("function", functions=(_root, np.square))
        ax.set_ylabel("Probability (square-root scale)")
    ax.set_ylim(bottom=0.0)
    legend(ax, source.mixture.n_components + 2)
    return plain(ax)


@reads_rows
def _of_rows(
    fitted: FitResult | MixtureOfExperts,
    x: Any,  # noqa: ANN401 (a tensor, or a table)
    y: Any,  # noqa: ANN401
    *,
    gate_x: Any,  # noqa: ANN401
    groups: GroupIds | None,
) -> Source:
    """Return the source of given rows."""
    data = Observations.checked(fitted, x, y, gate_x, groups=groups)
    names = tuple("y" if data.y.shape[1] == 1 else f"y{number}" for number in range(data.y.shape[1]))
    rows = PlottedRows(data.x, data.y, data.groups.spread(data.gate_x), (), names, ())
    return Source(data.mixture, None, rows)


def _points(source: Source, y: np.ndarray, n_points: int, is_count: bool) -> np.ndarray:
    """Return where to evaluate the density: over the range of y, or every whole number there."""
    if not is_count:
        low, high = limits(y)
        return np.linspace(low - 0.08 * (high - low), high + 0.08 * (high - low), n_points)
    step = max(1, int(np.ptp(y) // (4 * n_points)))
    return np.arange(float(y.min()), float(y.max()) + 1.0, step)


def _root(values: np.ndarray) -> np.ndarray:
    """Return square roots, of what is below zero 0."""
    return np.asarray(np.sqrt(np.maximum(values, 0.0)))


@torch.no_grad()
def _densities(source: Source, points: np.ndarray, output: int) -> np.ndarray:
    """Return every component's share of the density of an output [M, K], averaged over the rows."""
    experts, step = source.mixture.experts, max(1, -(-len(source.rows.x) // MOST_ROWS))
    weights = torch.as_tensor(source.weights[::step]).to(source.rows.x.device).double()
    x = experts.check_inputs(source.rows.x[::step]).double()
    shares = source.mixture.gate.weights(source.gate_x[::step]).double() * (weights / weights.sum()).unsqueeze(-1)
    predictive = experts.predictive(x)
    found = [(shares * log_density(predictive, value, output, like=x).exp()).sum(0) for value in points.tolist()]
    return as_array(torch.stack(found))


def _plot_curves(
    ax: Axes, points: np.ndarray, curves: np.ndarray, y: np.ndarray, weights: np.ndarray, is_count: bool
) -> None:
    """Plot densities [M, K] over a light histogram."""
    n_bins = min(60, max(20, int(3 * len(y) ** 0.4)))
    edges = np.unique(np.round(np.linspace(points[0], points[-1] + 1.0, n_bins + 1))) - 0.5
    bins = edges.tolist() if is_count else n_bins
    ax.hist(y, bins=bins, weights=weights, density=True, color="0.88", edgecolor="white", linewidth=0.5, label="data")
    ax.plot(points, curves.sum(1), color="0.25", alpha=0.4, linewidth=4.0, label="all")
    for k in range(curves.shape[1]):
        ax.fill_between(points, curves[:, k], color=colour(k), alpha=0.15, linewidth=0)
        ax.plot(points, curves[:, k], color=colour(k), linestyle=dashes(k), linewidth=2, label=str(k))
    ax.set_xlim(points[0], points[-1])


def _plot_bars(ax: Axes, points: np.ndarray, curves: np.ndarray, y: np.ndarray, weights: np.ndarray) -> None:
    """Plot probabilities [M, K] as stacked bars, and the shares of the data as circles."""
    bottom = np.zeros(len(points))
    for k in range(curves.shape[1]):
        ax.bar(points, curves[:, k], bottom=bottom, width=0.8, color=colour(k), alpha=0.75, linewidth=0, label=str(k))
        bottom = bottom + curves[:, k]
    seen = np.array([weights[y == point].sum() for point in points]) / weights.sum()
    style = {"color": "black", "markerfacecolor": "white", "linestyle": "none", "markersize": 5}
    ax.plot(points, seen, "o", label="data", **style)  # type: ignore[arg-type]
    ax.set_xlim(points[0] - 0.6, points[-1] + 0.6)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
