"""Plot of the gate's weights over two inputs."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.legend_handler import HandlerTuple
from matplotlib.patches import Patch

from mixpyro import arguments
from mixpyro.diagnostics.arviz_versions import ArvizData
from mixpyro.diagnostics.plots.gate_curve import gate_weights
from mixpyro.diagnostics.plots.grid import gate_grid
from mixpyro.diagnostics.plots.source import Source, as_array, source_of
from mixpyro.diagnostics.plots.style import axes_or_new, checked_axes, colour, note, points_of_map, two_columns
from mixpyro.fitting.result import FitResult
from mixpyro.mixture import MixtureOfExperts

# Rows beyond which they are not drawn: they would hide the map.
MOST_ROWS = 1000


@arguments.with_default_errors
@arguments.outside_contexts
@arguments.checked(features=two_columns, n_points=points_of_map, ax=checked_axes)
def plot_gate_map(
    result: FitResult | MixtureOfExperts | ArvizData,
    fitted: FitResult | MixtureOfExperts | None = None,
    *,
    data: ArvizData | None = None,
    features: tuple[int | str, int | str] = (0, 1),
    n_points: int = 201,
    ax: Axes | None = None,
) -> Axes:
    """Plot the most likely component of new objects over two inputs.

    The colour is that of the component, paler for a smaller weight: white at 1 / K, full at 1. The legend shows the
    shades. Black lines separate the components; dots are the rows that were fitted, up to 1,000 of them. The gate's
    other inputs are at their medians.

    Args:
        result: of :func:`mixpyro.fit`; a mixture with ``data``; or the data, followed by the fit.
        fitted: the fit or mixture where the data come first.
        data: result of :func:`mixpyro.to_arviz`, whose mean weights are shown; those of the fit without.
        features: numbers of the columns that the gate reads, from 0, or their names: horizontal, vertical.
        n_points: number of points along each axis, at least 2.
        ax: axes to draw on; those of a new figure by default.

    Raises:
        TypeError: if an argument is none of these.
        ValueError: if the gate reads no such column, or ``data`` are of another fit.
    """
    return draw_gate_map(source_of(result, fitted, data), features, n_points, axes_or_new(ax, size=(5.8, 4.2)))


def draw_gate_map(source: Source, features: tuple[int | str, int | str], n_points: int, ax: Axes) -> Axes:
    """Draw what :func:`plot_gate_map` plots.

    Args:
        source: the fit.
        features: numbers or names of two columns.
        n_points: along each axis.
        ax: the axes.
    """
    points = gate_grid(source, features, n_points)
    weights = gate_weights(source, points.gate_x, most_draws=50)
    weights = weights.reshape(n_points, n_points, -1).swapaxes(0, 1)
    (left, *_, right), (low, *_, high) = points.values
    extent = (left, right, low, high)
    ax.imshow(_shades(weights), origin="lower", extent=extent, aspect="auto", interpolation="bilinear")
    _plot_borders(ax, points.values, weights)
    _plot_rows(ax, source, features)
    ax.set(xlabel=points.labels[0], ylabel=points.labels[1], xlim=(left, right), ylim=(low, high))
    note(ax, points.held)
    _legend(ax, weights.shape[-1])
    return ax


def _plot_borders(ax: Axes, values: list[np.ndarray], weights: np.ndarray) -> None:
    """Plot where two components share the highest weight, interpolated between the points of the grid."""
    likeliest = np.unique(weights.argmax(-1)).tolist()
    for k in likeliest[1:] if len(likeliest) == 2 else likeliest * (len(likeliest) > 1):
        lead = weights[..., k] - np.delete(weights, k, axis=-1).max(-1)
        ax.contour(*values, lead, levels=[0.0], colors="black", linewidths=1.0)


def _plot_rows(ax: Axes, source: Source, features: tuple[int | str, int | str]) -> None:
    """Plot the rows as dots, so that one sees where the map extrapolates."""
    table = as_array(source.gate_x)
    if len(table) <= MOST_ROWS:
        x, y = (table[:, source.column(feature, of_gate=True, argument="features")] for feature in features)
        ax.scatter(x, y, s=9, c="black", alpha=0.45, linewidths=0.4, edgecolors="white")


def _legend(ax: Axes, n_components: int) -> None:
    """Put a legend on the right with three shades of each component."""
    even = 1.0 / n_components
    levels = [even + share * (1.0 - even) for share in (0.3, 0.65, 1.0)] if n_components > 1 else [1.0]
    handles = []
    for k in range(n_components):
        weights = [np.full(n_components, (1.0 - level) / max(1, n_components - 1)) for level in levels]
        for level, one in zip(levels, weights, strict=True):
            one[k] = level
        handles.append(tuple(Patch(color=to_hex(_shades(one).tolist())) for one in weights))
    ax.legend(
        handles=handles,
        labels=[str(k) for k in range(n_components)],
        title="Likeliest component,\nweight " + ", ".join(f"{level:.2g}" for level in levels),
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0.0)},
        handlelength=3.6,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        alignment="left",
    )


def _shades(weights: np.ndarray) -> np.ndarray:
    """Return the colour of the most likely component [..., 3], from white at a weight of 1 / K to full at 1."""
    n_components = weights.shape[-1]
    even = 1.0 / n_components
    strength = np.clip((weights.max(-1) - even) / (1.0 - even), 0.0, 1.0)[..., None] if n_components > 1 else 1.0
    colours = np.array([to_rgb(colour(k)) for k in range(n_components)])[weights.argmax(-1)]
    return np.asarray(1.0 - strength * (1.0 - colours))
