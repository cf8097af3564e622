"""Plot of the gate's weights over two inputs."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from mixpyro.diagnostics.arviz_versions import ArvizData
from mixpyro.diagnostics.made_from import mixture_of
from mixpyro.diagnostics.plots.gate_curve import gate_weights
from mixpyro.diagnostics.plots.grid import grid
from mixpyro.diagnostics.plots.style import axes_or_new, colour
from mixpyro.fitting.result import FitResult
from mixpyro.mixture import MixtureOfExperts


def plot_gate_map(
    data: ArvizData,
    fitted: FitResult | MixtureOfExperts,
    *,
    features: tuple[int, int] = (0, 1),
    n_points: int = 120,
    ax: Axes | None = None,
) -> Axes:
    """Plot the most likely component of new objects over two inputs.

    The colour is that of the component, paler for a smaller weight: white at 1 / K, full at 1. Lines separate the
    components. The other inputs are at their medians.

    Args:
        data: result of :func:`mixpyro.to_arviz`.
        fitted: the fit or mixture that ``data`` was made from.
        features: numbers of the columns that the gate reads, from 0: horizontal, vertical.
        n_points: number of points along each axis, at least 2.
        ax: axes to draw on; those of a new figure by default.

    Raises:
        ValueError: if the gate reads no such column, or ``data`` are of another fit.
    """
    ax = axes_or_new(ax, size=(5.5, 4.2))
    mixture = mixture_of(data, fitted)
    points = grid(data, features, n_points, of_gate=True)
    weights = gate_weights(data, mixture, points, most_draws=50).mean(0).reshape(n_points, n_points, -1).swapaxes(0, 1)
    likeliest = weights.argmax(-1)
    extent = (points.values[0][0], points.values[0][-1], points.values[1][0], points.values[1][-1])
    ax.imshow(_shades(weights), origin="lower", extent=extent, aspect="auto", interpolation="bilinear")
    for k in np.unique(likeliest).tolist():
        if len(np.unique(likeliest)) > 1:
            ax.contour(*points.values, (likeliest == k).astype(float), levels=[0.5], colors="black", linewidths=0.6)
    ax.set(xlabel=points.labels[0], ylabel=points.labels[1])
    handles = [Patch(color=colour(k), label=str(k)) for k in range(mixture.n_components)]
    ax.legend(
        handles=handles, title="Likeliest\ncomponent", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False
    )
    return ax


def _shades(weights: np.ndarray) -> np.ndarray:
    """Return the colour of the most likely component [..., 3], from white at a weight of 1 / K to full at 1."""
    n_components = weights.shape[-1]
    even = 1.0 / n_components
    strength = np.clip((weights.max(-1) - even) / max(1.0 - even, 1e-9), 0.0, 1.0)[..., None]
    colours = np.array([to_rgb(colour(k)) for k in range(n_components)])[weights.argmax(-1)]
    return np.asarray(1.0 - strength * (1.0 - colours))
