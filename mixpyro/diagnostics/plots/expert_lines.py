"""Every expert's mean of y along one input."""

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes

from mixpyro.diagnostics.arviz_versions import ArvizData, group
from mixpyro.diagnostics.assignments import posterior_sites
from mixpyro.diagnostics.draws import at_draws, components_of
from mixpyro.diagnostics.plots.style import Grid, axes_or_new, colour, dashes, grid, legend, plain
from mixpyro.fitting.result import FitResult
from mixpyro.mixture import MixtureOfExperts

# A component with less has no line of its own: its posterior is the prior, which would fill the picture.
LEAST_OBJECTS = 0.5


def plot_expert_lines(
    data: ArvizData,
    fitted: FitResult | MixtureOfExperts,
    *,
    feature: int = 0,
    output: int = 0,
    responsibilities: np.ndarray | None = None,
    n_points: int = 100,
    probability: float = 0.9,
    ax: Axes | None = None,
) -> Axes:
    """Every expert's mean of y along one input with its credible band, over the data; other inputs at their medians.

    Args:
        data: of :func:`mixpyro.to_arviz`.
        fitted: what it was made of; a FitResult colours the data by its responsibilities.
        feature: which column of x.
        output: which column of y.
        responsibilities: [N, K] by which to colour the data instead.
        n_points: of the lines.
        probability: of the bands.
        ax: where to draw; a figure of its own by default.
    """
    ax = axes_or_new(ax)
    mixture = fitted.mixture if isinstance(fitted, FitResult) else fitted
    if responsibilities is None and isinstance(fitted, FitResult):
        responsibilities = fitted.responsibilities.cpu().numpy()
    along = grid(data, [feature], n_points, of_gate=False)
    observed = next(iter(group(data, "observed_data").values())).values[:, output]
    x = group(data, "constant_data")["x"].values[:, feature]
    likeliest = None if responsibilities is None else responsibilities.argmax(1)
    shades = "0.6" if likeliest is None else [colour(k) for k in likeliest.tolist()]
    ax.scatter(x, observed, c=shades, s=14, alpha=0.55, linewidths=0, zorder=1)
    means = _means(data, mixture, along)[..., output]
    low, high = np.quantile(means, [0.5 - 0.5 * probability, 0.5 + 0.5 * probability], axis=0)
    for k in range(mixture.n_components):
        if responsibilities is not None and responsibilities[:, k].sum() < LEAST_OBJECTS:
            ax.plot([], [], color=colour(k), linestyle=dashes(k), linewidth=2, label=f"{k} (empty)")
            continue
        ax.fill_between(along.values[0], low[k], high[k], color=colour(k), alpha=0.25, linewidth=0, zorder=2)
        line: dict[str, Any] = {
            "color": colour(k),
            "linestyle": dashes(k),
            "linewidth": 2,
            "zorder": 3,
            "label": str(k),
        }
        ax.plot(along.values[0], means[:, k].mean(0), **line)
    ax.set(xlabel=along.labels[0], ylabel=str(_output_name(data, output)))
    span = observed.max() - observed.min()
    ax.set_ylim(observed.min() - 0.08 * span, observed.max() + 0.08 * span)
    legend(ax, mixture.n_components)
    return plain(ax)


@torch.no_grad()
def _means(data: ArvizData, mixture: MixtureOfExperts, along: Grid, *, most_draws: int = 500) -> np.ndarray:
    """E[y | x, k, θ] at some of the posterior's draws [S, K, G, P]."""
    sites, n_draws = posterior_sites(data, along.x.device)
    step = max(1, n_draws // most_draws)
    some = {name: values[::step] for name, values in sites.items()}
    n_some = len(range(0, n_draws, step))
    x = mixture.experts.check_inputs(along.x)
    at = at_draws(mixture, x, along.gate_x, some, n_some)
    likelihood = mixture.experts.likelihood(x, at.parameters, components_of(mixture, x))
    shape = mixture.n_components, n_some, len(x), mixture.experts.n_outputs
    return np.asarray(likelihood.mean.expand(shape).movedim(0, 1).double().cpu().numpy())


def _output_name(data: ArvizData, output: int) -> str:
    observed = next(iter(group(data, "observed_data").values()))
    return str(observed.coords["output"].values[output])
