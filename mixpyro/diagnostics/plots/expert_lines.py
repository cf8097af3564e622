"""Plot of every expert's mean of y along one input."""

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes

from mixpyro.diagnostics.arrays import GROUP_NUMBER, name_of_output
from mixpyro.diagnostics.arviz_versions import ArvizData, group
from mixpyro.diagnostics.conditioning import components_of
from mixpyro.diagnostics.made_from import mixture_of
from mixpyro.diagnostics.plots.grid import Grid, grid, some_draws
from mixpyro.diagnostics.plots.style import axes_or_new, colour, dashes, legend, plain
from mixpyro.fitting.result import FitResult
from mixpyro.mixture import MixtureOfExperts

# Objects. A component with fewer has no line: its posterior is the prior, whose band would fill the plot.
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
    """Plot every expert's mean of y along one input, with its credible band, over the data.

    The other inputs are at their medians.

    Args:
        data: result of :func:`mixpyro.to_arviz`.
        fitted: the fit or mixture that ``data`` was made from. With a fit, the data are coloured by its
            responsibilities.
        feature: number of the column of x, from 0.
        output: number of the column of y, from 0.
        responsibilities: [N, K] of the objects, to colour the data by these instead. Rows have the colour of their
            group where there are groups.
        n_points: number of points of each line, at least 2.
        probability: of the bands, above 0 and below 1.
        ax: axes to draw on; those of a new figure by default.

    Raises:
        ValueError: if x has no such column, or ``data`` are of another fit.
    """
    ax = axes_or_new(ax)
    mixture = mixture_of(data, fitted)
    if responsibilities is None and isinstance(fitted, FitResult):
        responsibilities = fitted.shares.cpu().numpy()
    responsibilities = _of_rows(data, responsibilities)
    points = grid(data, [feature], n_points, of_gate=False)
    observed = next(iter(group(data, "observed_data").values()))
    y = observed.values.reshape(len(observed), -1)[:, output]
    _plot_data(ax, group(data, "constant_data")["x"].values[:, feature], y, responsibilities)
    means = _means(data, mixture, points)[..., output]
    for k in range(mixture.n_components):
        is_empty = responsibilities is not None and float(responsibilities[:, k].sum()) < LEAST_OBJECTS
        _plot_component(ax, k, points.values[0], None if is_empty else means[:, k], probability)
    ax.set(xlabel=points.labels[0], ylabel=name_of_output(observed, output))
    legend(ax, mixture.n_components)
    return plain(ax)


def _of_rows(data: ArvizData, responsibilities: np.ndarray | None) -> np.ndarray | None:
    """Return responsibilities of rows [rows, K], those of their groups where there are groups."""
    number = group(data, "constant_data").get(GROUP_NUMBER)
    return responsibilities if number is None or responsibilities is None else responsibilities[number.values]


def _plot_data(ax: Axes, x: np.ndarray, y: np.ndarray, responsibilities: np.ndarray | None) -> None:
    """Plot the data, coloured by most likely component, and let them set the range of the vertical axis.

    Limits of censored outcomes that are infinite are left out.
    """
    known = np.isfinite(y)
    x, y, responsibilities = x[known], y[known], None if responsibilities is None else responsibilities[known]
    colours = "0.6" if responsibilities is None else [colour(k) for k in responsibilities.argmax(1).tolist()]
    ax.scatter(x, y, c=colours, s=14, alpha=0.55, linewidths=0, zorder=1)
    margin = 0.08 * (y.max() - y.min())
    ax.set_ylim(y.min() - margin, y.max() + margin)


def _plot_component(ax: Axes, k: int, x: np.ndarray, means: np.ndarray | None, probability: float) -> None:
    """Plot a component's line and band from draws of its mean [S, G]; with None, an entry in the legend alone."""
    style: dict[str, Any] = {"color": colour(k), "linewidth": 2.0, "zorder": 3.0}
    if means is None:
        ax.plot([], [], linestyle=dashes(k), label=f"{k} (empty)", **style)
        return
    low, high = np.quantile(means, [0.5 - 0.5 * probability, 0.5 + 0.5 * probability], axis=0)
    ax.fill_between(x, low, high, color=colour(k), alpha=0.25, linewidth=0, zorder=2)
    ax.plot(x, means.mean(0), linestyle=dashes(k), label=str(k), **style)


@torch.no_grad()
def _means(data: ArvizData, mixture: MixtureOfExperts, points: Grid) -> np.ndarray:
    """Return E[y | x, k, θ] at some of the posterior's draws [S, K, G, P]."""
    x, experts = mixture.experts.check_inputs(points.x), mixture.experts
    found = []
    for model, n_draws in some_draws(data, mixture, points, most_draws=500):
        mean = experts.likelihood(x, model.parameters, components_of(mixture, x)).mean
        mean = mean.reshape(mixture.n_components, -1, *mean.shape[-2:])
        shape = mixture.n_components, n_draws, len(x), experts.n_outputs
        found.append(mean.expand(shape).movedim(0, 1).double().cpu().numpy())
    return np.concatenate(found)
