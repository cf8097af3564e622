"""What each component adds to the distribution of y."""

import torch
from matplotlib.axes import Axes

from mixpyro.diagnostics.plots.style import axes_or_new, colour, dashes, legend, plain
from mixpyro.fitting.result import FitResult
from mixpyro.mixture import MixtureOfExperts
from mixpyro.shapes import GateInputs, Inputs, Targets


@torch.no_grad()
def plot_component_densities(
    fitted: FitResult | MixtureOfExperts,
    x: Inputs,
    y: Targets,
    *,
    gate_x: GateInputs | None = None,
    output_name: str = "y",
    n_points: int = 300,
    ax: Axes | None = None,
) -> Axes:
    """Predictive density of y over the objects' x, split into what each component adds, over a histogram of y.

    Args:
        fitted: a mixture of one output.
        x: inputs [N, D].
        y: outputs [N, 1] or [N].
        gate_x: what the gate sees, where that is not x.
        output_name: what y is called.
        n_points: of the curves.
        ax: where to draw; a figure of its own by default.

    Raises:
        ValueError: if y has several columns.
    """
    mixture = fitted.mixture if isinstance(fitted, FitResult) else fitted
    x, y, gate_x = mixture.check_data(x, y, gate_x)
    if y.shape[1] != 1:
        raise ValueError(f"`y` must have one column; got {y.shape[1]}.")
    ax = axes_or_new(ax)
    margin = 0.05 * float(y.max() - y.min())
    points = torch.linspace(float(y.min()) - margin, float(y.max()) + margin, n_points, dtype=y.dtype, device=y.device)
    weights, predictive = mixture.gate.unseen_weights(gate_x), mixture.experts.predictive(x)
    parts = torch.stack([(weights * predictive.log_prob(point.reshape(1, 1, 1)).exp()).mean(0) for point in points])
    curves, along = parts.double().cpu().numpy(), points.double().cpu().numpy()
    bins = min(60, max(12, int(2 * len(y) ** (1 / 2.5))))
    ax.hist(y.double().cpu().numpy()[:, 0], bins=bins, density=True, color="0.88", edgecolor="white", linewidth=0.5)
    for k in range(mixture.n_components):
        ax.fill_between(along, curves[:, k], color=colour(k), alpha=0.15, linewidth=0)
        ax.plot(along, curves[:, k], color=colour(k), linestyle=dashes(k), linewidth=2, label=str(k))
    ax.plot(along, curves.sum(1), color="black", linewidth=1.2, label="all")
    ax.set(xlabel=output_name, ylabel="Density", xlim=(along[0], along[-1]))
    ax.set_ylim(bottom=0.0)
    legend(ax, mixture.n_components + 1)
    return plain(ax)
