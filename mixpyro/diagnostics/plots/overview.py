"""Four plots of a fit on one figure."""

import io
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mixpyro import arguments
from mixpyro.arguments.signals import pass_on
from mixpyro.diagnostics.arviz_versions import ArvizData
from mixpyro.diagnostics.plots.bound_traces import plot_bound_traces
from mixpyro.diagnostics.plots.component_densities import draw_component_densities
from mixpyro.diagnostics.plots.expert_lines import draw_expert_lines
from mixpyro.diagnostics.plots.expert_means import expert_means, n_categories
from mixpyro.diagnostics.plots.gate_curve import draw_gate_curve, gate_weights
from mixpyro.diagnostics.plots.gate_map import draw_gate_map
from mixpyro.diagnostics.plots.grid import gate_grid
from mixpyro.diagnostics.plots.optima import plot_optima
from mixpyro.diagnostics.plots.partial_residuals import centres
from mixpyro.diagnostics.plots.responsibilities import plot_responsibilities
from mixpyro.diagnostics.plots.source import Source, source_of
from mixpyro.diagnostics.plots.style import LONGEST_LABEL, drawn
from mixpyro.diagnostics.plots.ternary import plot_ternary
from mixpyro.diagnostics.plots.weights_forest import draw_weights_forest
from mixpyro.fitting.result import FitResult


class Overview(Figure):
    """A figure that notebooks show without ``matplotlib.pyplot``."""

    def _repr_png_(self) -> bytes:
        """Return the figure as PNG."""
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


@arguments.with_default_errors
@arguments.outside_contexts
def plot_overview(result: FitResult, *, data: ArvizData | None = None) -> Figure:
    """Plot what a fit has found, in four plots on one figure.

    The experts: lines along the input that moves them most, or densities where there is none. The gate: a curve, a map
    of the two inputs that move it most, or the weights. The assignments: the triangle of three components, or
    responsibilities. The restarts: their optima, or the bounds of runs that have all ended at one. A plot that does not
    apply says why.

    Args:
        result: of :func:`mixpyro.fit`.
        data: result of :func:`mixpyro.to_arviz`, to take rows and draws from; without, the result's own.

    Returns:
        A figure of no window: show it in a notebook, or call its ``savefig``.

    Raises:
        TypeError: if ``result`` is no result of a fit.
        ValueError: if there are neither data nor rows.
    """
    source = source_of(result, None, data)
    figure = Overview(figsize=(11.0, 7.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    _panel(axes[0, 0], "Experts", _draw_experts, source)
    _panel(axes[0, 1], "Gate", _draw_gate, source)
    _panel(axes[1, 0], "Assignments", _draw_assignments, source)
    _panel(axes[1, 1], "Restarts", _draw_restarts, source)
    return figure


def _panel(ax: Axes, title: str, draw: Callable[[Source, Axes], object], source: Source) -> None:
    """Draw one of the plots, or write why it does not apply."""
    try:
        draw(source, ax)
    except (ValueError, TypeError, NotImplementedError) as error:
        pass_on(error)
        ax.clear()
        ax.axis("off")
        # Pyro appends shapes of its trace.
        reason = textwrap.fill(drawn(f"Not shown: {str(error).splitlines()[0]}", longest=LONGEST_LABEL), 60)
        ax.text(0.5, 0.5, reason, ha="center", va="center", transform=ax.transAxes)
    lines = ax.get_title(loc="left").count("\n") + bool(ax.get_title(loc="left"))
    ax.annotate(title, (0.0, 1.0), (0.0, 6.0 + 10.0 * lines), "axes fraction", "offset points", fontweight="bold")


def _draw_experts(source: Source, ax: Axes) -> None:
    """Draw lines along the input that moves the experts most, or densities."""
    if source.mixture.experts.n_features == 0 or not source.rows.x_names:
        draw_component_densities(source, 0, None, 300, ax)
        return
    draw_expert_lines(source, _strongest_input(source), 0, source.shares, 100, 0.9, ax)


def _draw_gate(source: Source, ax: Axes) -> None:
    """Draw the gate's curve, map or weights, by how many inputs it reads."""
    n_inputs = source.gate_x.shape[1] if source.mixture.gate.reads_inputs else 0
    if n_inputs == 0 or source.mixture.n_components == 1:
        draw_weights_forest(source, ax)
    elif n_inputs == 1:
        draw_gate_curve(source, 0, 301, 0.9, ax)
    else:
        first, second = _strongest_gate_inputs(source)
        draw_gate_map(source, (first, second), 151, ax)


def _draw_assignments(source: Source, ax: Axes) -> None:
    """Draw the triangle of three components, or bars."""
    assert source.result is not None
    (plot_ternary if source.mixture.n_components == 3 else plot_responsibilities)(source.result, ax=ax)


def _draw_restarts(source: Source, ax: Axes) -> None:
    """Draw the optima where runs have ended at several, else the bounds."""
    assert source.result is not None
    (plot_optima if len(source.result.optima) > 1 else plot_bound_traces)(source.result, ax=ax)


def _strongest_input(source: Source) -> int:
    """Return the input along which a component's mean moves most, over the central 80 % of the data."""
    shares, n_inputs = source.shares, len(source.rows.x_names) - (source.exposure_column is not None)
    if n_inputs == 1:
        return 0
    at = centres(source, shares)
    number = max(n_categories(source) - 1, 0)
    moves = [
        _most_moved(expert_means(source, _rows_between(source, source.rows.x, column, at), number))
        for column in range(n_inputs)
    ]
    return int(np.argmax(moves))


def _strongest_gate_inputs(source: Source) -> tuple[int, int]:
    """Return the two inputs along which a weight moves most, in the order of their columns."""
    n_inputs = source.gate_x.shape[1]
    moves = [
        float(np.ptp(gate_weights(source, gate_grid(source, [one], 25).gate_x), axis=0).max())
        for one in range(n_inputs)
    ]
    first, second = sorted(np.argsort(-np.array(moves), kind="stable")[:2].tolist())
    return first, second


def _rows_between(source: Source, x: Any, column: int, at: np.ndarray) -> Any:  # noqa: ANN401 (tensors)
    """Return for each component two rows [2 · K, D], a low and a high value of an input, the others held."""
    low, high = np.quantile(source.x[:, column], [0.1, 0.9])
    rows = np.repeat(at, 2, axis=0)
    rows[0::2, column], rows[1::2, column] = low, high
    return x.new_tensor(rows)


def _most_moved(means: np.ndarray) -> float:
    """Return the largest difference between the two rows of a component, of means [2 · K, K]."""
    of_each = [abs(float(means[2 * k + 1, k] - means[2 * k, k])) for k in range(means.shape[1])]
    return max((one for one in of_each if np.isfinite(one)), default=0.0)
