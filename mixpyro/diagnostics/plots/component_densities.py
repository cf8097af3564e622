"""Plot of the predictive density of y and each component's share of it."""

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from mixpyro.diagnostics.observations import Observations
from mixpyro.diagnostics.plots.style import axes_or_new, colour, dashes, legend, plain
from mixpyro.fitting.result import FitResult
from mixpyro.groups import GroupIds
from mixpyro.mixture import MixtureOfExperts
from mixpyro.shapes import GateInputs, Inputs, Targets


def plot_component_densities(
    fitted: FitResult | MixtureOfExperts,
    x: Inputs,
    y: Targets,
    *,
    gate_x: GateInputs | None = None,
    groups: GroupIds | None = None,
    output_name: str = "y",
    n_points: int = 300,
    ax: Axes | None = None,
) -> Axes:
    """Plot the predictive density of y and each component's share of it.

    Both are averages over the rows. A histogram of y is behind them.

    Args:
        fitted: a fit or mixture with one output.
        x: inputs [N, D].
        y: outputs [N, 1] or [N].
        gate_x: what the gate reads [N, G], where that is not x.
        groups: an id of the group of each row [N]; those of a fit by default.
        output_name: label of the horizontal axis.
        n_points: number of points of each curve, at least 2.
        ax: axes to draw on; those of a new figure by default.

    Raises:
        ValueError: if y has several columns.
    """
    data = Observations.checked(fitted, x, y, gate_x, groups=groups)
    mixture, x, y, gate_x = data.mixture, data.x, data.y, data.groups.spread(data.gate_x)
    if y.shape[1] != 1:
        raise ValueError(f"`y` must have one column; got {y.shape[1]}.")
    ax = axes_or_new(ax)
    points, curves = _densities(mixture, x, y, gate_x, n_points)
    bins = min(60, max(12, int(2 * len(y) ** (1 / 2.5))))
    ax.hist(y.double().cpu().numpy()[:, 0], bins=bins, density=True, color="0.88", edgecolor="white", linewidth=0.5)
    for k in range(mixture.n_components):
        ax.fill_between(points, curves[:, k], color=colour(k), alpha=0.15, linewidth=0)
        ax.plot(points, curves[:, k], color=colour(k), linestyle=dashes(k), linewidth=2, label=str(k))
    ax.plot(points, curves.sum(1), color="black", linewidth=1.2, label="all")
    ax.set(xlabel=output_name, ylabel="Density", xlim=(points[0], points[-1]))
    ax.set_ylim(bottom=0.0)
    legend(ax, mixture.n_components + 1)
    return plain(ax)


@torch.no_grad()
def _densities(
    mixture: MixtureOfExperts, x: Tensor, y: Tensor, gate_x: Tensor, n_points: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return points over the range of y [G], and every component's share of the density there [G, K]."""
    margin = 0.05 * float(y.max() - y.min())
    points = torch.linspace(float(y.min()) - margin, float(y.max()) + margin, n_points, dtype=y.dtype, device=y.device)
    weights, predictive = mixture.gate.weights(gate_x), mixture.experts.predictive(x)
    shares = [(weights * predictive.log_prob(point.reshape(1, 1, 1)).exp()).mean(0) for point in points]
    return points.double().cpu().numpy(), torch.stack(shares).double().cpu().numpy()
