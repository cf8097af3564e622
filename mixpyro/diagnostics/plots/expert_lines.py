"""Plot of every expert's mean of y along one input."""

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from torch import Tensor

from mixpyro import arguments
from mixpyro.diagnostics.arviz_versions import ArvizData
from mixpyro.diagnostics.plots.expert_means import expert_mean_draws, expert_means, n_categories
from mixpyro.diagnostics.plots.grid import listed
from mixpyro.diagnostics.plots.partial_residuals import centres, partial_residuals
from mixpyro.diagnostics.plots.source import Source, source_of
from mixpyro.diagnostics.plots.style import (
    axes_or_new,
    checked_axes,
    colour,
    dashes,
    drawn,
    legend,
    limits,
    marker,
    note,
    plain,
    points,
)
from mixpyro.fitting.result import FitResult
from mixpyro.mixture import MixtureOfExperts

# Objects. A component with fewer has no line: its posterior is the prior, whose band would fill the plot.
LEAST_OBJECTS = 0.5
NO_BANDS = "no bands: the experts' parameters are estimates without standard errors"


@arguments.with_default_errors
@arguments.outside_contexts
@arguments.checked(n_points=points, probability=arguments.probability, ax=checked_axes)
def plot_expert_lines(
    result: FitResult | MixtureOfExperts | ArvizData,
    fitted: FitResult | MixtureOfExperts | None = None,
    *,
    data: ArvizData | None = None,
    feature: int | str = 0,
    output: int | str = 0,
    responsibilities: np.ndarray | None = None,
    n_points: int = 100,
    probability: float = 0.9,
    ax: Axes | None = None,
) -> Axes:
    """Plot every expert's mean of y along one input, with its credible band, over the data.

    Of several inputs the others are at each component's mean, weighted by the responsibilities, and the points are
    partial residuals: the row's residual from its likeliest component added to that component's line, as a factor where
    y is a count. Points have the colour and marker of that component, and are fainter where it is less sure. A line is
    thick, with its band, over the range of 98 % of the component's rows, and faint beyond, where it extrapolates.

    Lines are the fit's means, or the means of the draws where ``data`` are given. Of experts of categories they are
    probabilities of one category.

    Args:
        result: of :func:`mixpyro.fit`; a mixture with ``data``; or the data, followed by the fit.
        fitted: the fit or mixture where the data come first.
        data: result of :func:`mixpyro.to_arviz`, to take draws from; they are made here without.
        feature: number of the column of x, from 0, or its name.
        output: number of the column of y, from 0, or its name; of experts of categories, the number of the category,
            the last one by default.
        responsibilities: [N, K] of the objects, to colour the data by instead of the fit's. Rows have the colour of
            their group where there are groups.
        n_points: number of points of each line, at least 2.
        probability: of the bands, above 0 and below 1.
        ax: axes to draw on; those of a new figure by default.

    Raises:
        TypeError: if an argument is none of these.
        ValueError: if x or y has no such column, or ``data`` are of another fit.
    """
    source = source_of(result, fitted, data)
    shares = source.shares if responsibilities is None else source.given_shares(responsibilities)
    return draw_expert_lines(source, feature, output, shares, n_points, probability, axes_or_new(ax))


def draw_expert_lines(
    source: Source,
    feature: int | str,
    output: int | str,
    shares: np.ndarray | None,
    n_points: int,
    probability: float,
    ax: Axes,
) -> Axes:
    """Draw what :func:`plot_expert_lines` plots.

    Args:
        source: the fit.
        feature: number or name of the column of x.
        output: number or name of the column of y, or number of the category.
        shares: responsibilities of the rows [N, K], or None.
        n_points: of each line.
        probability: of the bands.
        ax: the axes.
    """
    if not source.rows.x_names:
        raise ValueError("`x` must have a column for lines along it; got none. Plot `plot_component_densities`.")
    column, n_components = source.column(feature), source.mixture.n_components
    known, number, label = _outcome(source, output)
    counts = np.full(n_components, np.inf) if shares is None else (source.weights[:, None] * shares).sum(0)
    at = centres(source, shares)
    values = source.as_exposures(column, np.linspace(*limits(source.x[:, column]), n_points))
    points = partial_residuals(source, column, number, known, shares, at)
    _plot_rows(ax, source.x[:, column], points, shares)
    lines, bands = _lines(source, _grid(source, column, values, at), number, probability)
    for k in range(n_components):
        if counts[k] < LEAST_OBJECTS:
            ax.plot([], [], label=f"{k} (empty)", **_style(k))
        else:
            own = _own_range(source, column, values, shares, k)
            band = None if bands is None else bands[k]
            _plot_component(ax, k, values, lines[k], band, own, alpha=0.25 if n_components < 5 else 0.15)
    others = [name for one, name in enumerate(source.rows.x_names) if one != column]
    mean = "mean" if len(others) == 1 else "means"
    held = f"\n({listed(others)} at each component's {mean})" if others and source.mixture.experts.n_features else ""
    ax.set(xlabel=drawn(source.rows.x_names[column]), ylabel=label + held)
    note(ax, NO_BANDS if bands is None else source.draws.remark)
    legend(ax, n_components)
    return plain(ax)


def _outcome(source: Source, output: int | str) -> tuple[np.ndarray, int, str]:
    """Return the values of an output [N], the number of its mean, and its name; of categories, whether y is in one."""
    categories = n_categories(source)
    if not categories:
        number = source.output(output)
        return source.y[:, number], number, drawn(source.rows.y_names[number])
    number = categories - 1 if output in (0, source.rows.y_names[0]) else int(output)
    if not 0 <= number < categories:
        raise ValueError(f"`output` must be a category below {categories}; got {output}.")
    of_all = source.y[:, 0]
    is_one = np.where(np.isnan(of_all), np.nan, of_all == number)
    return is_one, number, f"Probability of {drawn(source.rows.y_names[0])} = {number}"


def _grid(source: Source, column: int, values: np.ndarray, at: np.ndarray) -> Tensor:
    """Return rows along one input for each component, the others where they are held [K · M, D]."""
    rows = np.repeat(at[:, None], len(values), axis=1)
    rows[..., column] = values
    return torch.as_tensor(rows.reshape(-1, rows.shape[-1])).to(source.rows.x)


def _lines(
    source: Source, x: Tensor, output: int, probability: float
) -> tuple[list[np.ndarray], list[tuple[np.ndarray, np.ndarray]] | None]:
    """Return every component's line [M] on its own rows, and the limits of its band."""
    n_components = source.mixture.n_components
    draws = expert_mean_draws(source, x, output)
    lines = expert_means(source, x, output) if draws is None or not source.draws.were_given else draws.mean(0)
    of_each = [lines.reshape(n_components, -1, n_components)[k, :, k] for k in range(n_components)]
    if draws is None:
        return of_each, None
    own = draws.reshape(len(draws), n_components, -1, n_components)
    probabilities = [0.5 - 0.5 * probability, 0.5 + 0.5 * probability]
    quantiles = (np.quantile(own[:, k, :, k], probabilities, axis=0) for k in range(n_components))
    return of_each, [(low, high) for low, high in quantiles]


def _plot_rows(ax: Axes, x: np.ndarray, y: np.ndarray, shares: np.ndarray | None) -> None:
    """Plot the rows, coloured by most likely component, and let them set the range of the vertical axis.

    Values that were not observed, and limits of censored outcomes that are infinite, are left out.
    """
    known = np.isfinite(y)
    x, y = x[known], y[known]
    if shares is None:
        ax.scatter(x, y, c="0.6", s=14, alpha=0.55, linewidths=0, zorder=1)
    else:
        sure, likeliest = shares[known].max(1), shares[known].argmax(1)
        for k in np.unique(likeliest).tolist():
            own = likeliest == k
            colours = np.tile(to_rgba(colour(k)), (int(own.sum()), 1))
            colours[:, 3] = 0.15 + 0.5 * _certainty(sure[own], shares.shape[1])
            ax.scatter(x[own], y[own], c=colours, marker=marker(k), s=15, linewidths=0, zorder=1)
    if len(y):
        low, high = limits(y)
        ax.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))


def _certainty(largest: np.ndarray, n_components: int) -> np.ndarray:
    """Return 0 for responsibilities that are all alike, and 1 for one of 1."""
    even = 1.0 / n_components
    return np.ones_like(largest) if n_components == 1 else np.clip((largest - even) / (1.0 - even), 0.0, 1.0)


def _own_range(source: Source, column: int, values: np.ndarray, shares: np.ndarray | None, k: int) -> np.ndarray:
    """Return which points of a line are where 98 % of the component's rows are [M], at least two of them."""
    if shares is None:
        return np.ones(len(values), dtype=bool)
    order = np.argsort(source.x[:, column])
    x, reached = source.x[order, column], np.cumsum((source.weights * shares[:, k])[order])
    low, high = (x[np.searchsorted(reached, share * reached[-1])] for share in (0.01, 0.99))
    first = min(int(np.searchsorted(values, low, side="right")) - 1, len(values) - 2)
    last = max(int(np.searchsorted(values, high, side="left")), first + 1)
    numbers = np.arange(len(values))
    return (numbers >= first) & (numbers <= last)


def _plot_component(
    ax: Axes,
    k: int,
    x: np.ndarray,
    line: np.ndarray,
    band: tuple[np.ndarray, np.ndarray] | None,
    own: np.ndarray,
    *,
    alpha: float,
) -> None:
    """Plot a component's line and band where its rows are, and elsewhere a faint line alone."""
    if band is not None:
        low, high = band
        ax.fill_between(x[own], low[own], high[own], color=colour(k), alpha=alpha, linewidth=0, zorder=2)
    ax.plot(x[own], line[own], label=str(k), **_style(k))
    if not own.all():
        ax.plot(x, line, color=colour(k), linestyle=dashes(k), linewidth=0.8, alpha=0.4, zorder=1.5)


def _style(k: int) -> dict[str, Any]:
    """Return the style of a component's line."""
    return {"color": colour(k), "linestyle": dashes(k), "linewidth": 2.0, "zorder": 3.0}
