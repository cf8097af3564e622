"""The gate's weights over two inputs."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from mixpyro.diagnostics.arviz_versions import ArvizData
from mixpyro.diagnostics.plots.gate_curve import gate_weights
from mixpyro.diagnostics.plots.style import axes_or_new, colour, grid
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
    """The likeliest component of a new object over two of the gate's inputs, paler where its weight is smaller.

    White is a weight no larger than even ones, the full colour a weight of one. Lines part the components.

    Args:
        data: of :func:`mixpyro.to_arviz`.
        fitted: what it was made of.
        features: which columns of the gate's inputs, across and up; the others are at their medians.
        n_points: along each.
        ax: where to draw; a figure of its own by default.
    """
    ax = axes_or_new(ax, size=(5.5, 4.2))
    mixture = fitted.mixture if isinstance(fitted, FitResult) else fitted
    over = grid(data, features, n_points, of_gate=True)
    weights = gate_weights(data, mixture, over, most_draws=50).mean(0).reshape(n_points, n_points, -1).swapaxes(0, 1)
    likeliest, n_components = weights.argmax(-1), mixture.n_components
    even = 1.0 / n_components
    strength = np.clip((weights.max(-1) - even) / max(1.0 - even, 1e-9), 0.0, 1.0)[..., None]
    colours = np.array([to_rgb(colour(k)) for k in range(n_components)])[likeliest]
    extent = (over.values[0][0], over.values[0][-1], over.values[1][0], over.values[1][-1])
    ax.imshow(1.0 - strength * (1.0 - colours), origin="lower", extent=extent, aspect="auto", interpolation="bilinear")
    for k in np.unique(likeliest).tolist():
        if len(np.unique(likeliest)) > 1:
            ax.contour(*over.values, (likeliest == k).astype(float), levels=[0.5], colors="black", linewidths=0.6)
    ax.set(xlabel=over.labels[0], ylabel=over.labels[1])
    handles = [Patch(color=colour(k), label=str(k)) for k in range(n_components)]
    ax.legend(
        handles=handles, title="Likeliest\ncomponent", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False
    )
    return ax
