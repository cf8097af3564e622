"""The gate's weights along one input."""

import numpy as np
from matplotlib.axes import Axes

from mixpyro.diagnostics.arviz_versions import ArvizData
from mixpyro.diagnostics.assignments import posterior_sites
from mixpyro.diagnostics.draws import at_draws
from mixpyro.diagnostics.plots.style import Grid, axes_or_new, colour, dashes, grid, has_draws, legend, plain
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
    """Weights of new objects along one of the gate's inputs, with credible bands; the other inputs at their medians.

    A gate whose parameters are estimated, as a neural one's, has no bands.

    Args:
        data: of :func:`mixpyro.to_arviz`.
        fitted: what it was made of.
        feature: which column of the gate's inputs.
        n_points: of the curves.
        probability: of the bands.
        ax: where to draw; a figure of its own by default.
    """
    ax = axes_or_new(ax)
    mixture = fitted.mixture if isinstance(fitted, FitResult) else fitted
    along = grid(data, [feature], n_points, of_gate=True)
    weights = gate_weights(data, mixture, along)
    low, high = np.quantile(weights, [0.5 - 0.5 * probability, 0.5 + 0.5 * probability], axis=0)
    for k in range(mixture.n_components):
        ax.plot(
            along.values[0], weights[..., k].mean(0), color=colour(k), linestyle=dashes(k), linewidth=2, label=str(k)
        )
        if has_draws(data, mixture.gate.site("")):
            ax.fill_between(along.values[0], low[:, k], high[:, k], color=colour(k), alpha=0.18, linewidth=0)
    ax.set(xlabel=along.labels[0], ylabel="Gate weight", ylim=(0, 1), xlim=(along.values[0][0], along.values[0][-1]))
    legend(ax, mixture.n_components)
    return plain(ax)


def gate_weights(data: ArvizData, mixture: MixtureOfExperts, along: Grid, *, most_draws: int = 500) -> np.ndarray:
    """Weights of new objects at some of the posterior's draws [S, G, K]."""
    sites, n_draws = posterior_sites(data, along.x.device)
    step = max(1, n_draws // most_draws)
    some = {name: values[::step] for name, values in sites.items()}
    n_some = len(range(0, n_draws, step))
    log_weights = at_draws(mixture, along.x, along.gate_x, some, n_some).log_weights
    shape = n_some, len(along.gate_x), mixture.n_components
    return np.asarray(log_weights.softmax(-1).expand(shape).double().cpu().numpy())
