"""Does the amount of nitric oxide tell on which of two lines an engine run lies?

Question: a lean and a rich mixture of fuel and air produce the same nitric oxide (NO), so the equivalence ratio lies on
one of two lines over NO. Is each line as likely everywhere, or does that depend on NO? A Dirichlet gate has the same
weights for all runs; a neural gate computes them from NO.

Data: 88 runs of a single-cylinder engine on ethanol, ``data/ethanol.csv``.

Expected answer: a rising line 0.56 + 0.086 NO and a falling line 1.25 − 0.083 NO under both gates, about half of the
runs on each. The neural gate gives the rising line a weight that grows with NO, from 0.4 to 0.7: a weak dependence.

Source: Brinkman (1981), Ethanol fuel: a single-cylinder engine study of efficiency and exhaust emissions, SAE
Transactions 90; analysed by Hurn, Justel, Robert (2003), Estimating mixtures of regressions.
"""

import argparse
import csv
from pathlib import Path
from typing import NamedTuple

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor, nn

from mixpyro import DirichletGate, FitResult, LinearExperts, MixtureOfExperts, NeuralGate, fit
from mixpyro.gates import Gate

HERE = Path(__file__).parent
LINES = ("rising line", "falling line")
COLOURS = ("#D55E00", "#0072B2")
MEMBERSHIP = LinearSegmentedColormap.from_list("membership", [COLOURS[1], "#E8E8E8", COLOURS[0]])


class Fit(NamedTuple):
    """One gate's fit, and the order that puts its rising line first."""

    gate: str
    result: FitResult
    order: Tensor


def main(args: argparse.Namespace) -> None:
    """Fit both gates, print what they found, and draw it."""
    x, y = read_data(HERE / "data" / "ethanol.csv")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    gates = {"global": DirichletGate(2), "neural": NeuralGate(2, network, prior_scale=1.0)}
    fits = [fit_gate(name, gate, x, y, args.restarts) for name, gate in gates.items()]
    print_table(fits, x)
    with matplotlib.rc_context({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}):
        draw(fits, x, y).savefig(args.output, dpi=150)


def read_data(path: Path) -> tuple[Tensor, Tensor]:
    """Return nitric oxide [N, 1] and equivalence ratio [N, 1]."""
    with path.open() as file:
        rows = [(float(row["NO"]), float(row["Equivalence"])) for row in csv.DictReader(file)]
    x, y = torch.tensor(rows, dtype=torch.float64).split(1, dim=1)
    return x, y


def fit_gate(name: str, gate: Gate, x: Tensor, y: Tensor, n_restarts: int) -> Fit:
    """Fit two lines under one gate."""
    result = fit(MixtureOfExperts(gate, LinearExperts(2, 1)), x, y, n_restarts=n_restarts)
    slopes = result.mixture.experts.coefficients[:, 0, 1]
    return Fit(name, result, slopes.argsort(descending=True))


def print_table(fits: list[Fit], x: Tensor) -> None:
    """Print one row per line and gate, then a summary of each fit."""
    print(f"{'gate':<8}{'component':<14}{'weight':>6}{'intercept ± sd':>20}{'slope ± sd':>20}{'noise sd':>11}")
    for gate, result, order in fits:
        experts = result.mixture.experts
        weights = result.mixture.gate.weights(x).mean(0)
        for line, k in zip(LINES, order.tolist(), strict=True):
            means, deviations = experts.coefficients[k, 0], experts.coefficient_standard_deviations[k, 0]
            columns = "".join(f"{m:>11.4f} ± {sd:.4f}" for m, sd in zip(means, deviations, strict=True))
            noise = experts.noise_standard_deviations[k, 0]
            print(f"{gate:<8}{line:<14}{weights[k]:>6.3f}{columns}{noise:>11.4f}")
    for gate, result, _ in fits:
        print(f"{gate} gate: {result}")
    print("The neural bound includes the log prior of the network's weights: do not compare it with the global one.")


def draw(fits: list[Fit], x: Tensor, y: Tensor) -> Figure:
    """Draw one column per gate: data and lines above, the gate's weights below."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots(2, len(fits), sharex=True, sharey="row", height_ratios=(2, 1))
    grid = torch.linspace(0.2, 4.2, 200, dtype=torch.float64).unsqueeze(1)
    for one, (top, bottom) in zip(fits, axes.T, strict=True):
        top.set_title(f"{one.gate.capitalize()} gate")
        draw_lines(top, one, grid)
        points = draw_points(top, one, x, y)
        draw_weights(bottom, one, grid)
    axes[0, 0].set(ylabel="Equivalence ratio", xlim=(0.2, 4.2), xticks=range(1, 5))
    axes[1, 0].set(ylabel="Gate weight", ylim=(0, 1), yticks=(0, 0.5, 1))
    figure.colorbar(points, ax=axes[0], label="Responsibility of the rising line", aspect=18)
    handles = [*axes[0, 0].get_lines(), Patch(color="black", alpha=0.15, linewidth=0), points]
    labels = [*LINES, "± 2 predictive sd", "engine run"]
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    return figure


def draw_lines(axes: Axes, one: Fit, grid: Tensor) -> None:
    """Draw each expert's predictive mean with a band of two standard deviations on either side."""
    predictive = one.result.mixture.experts.predictive(grid)
    for colour, k in zip(COLOURS, one.order.tolist(), strict=True):
        mean, deviation = predictive.mean[:, k, 0], predictive.stddev[:, k, 0]
        axes.plot(grid[:, 0], mean, color=colour, linewidth=2)
        low, high = mean - 2 * deviation, mean + 2 * deviation
        axes.fill_between(grid[:, 0], low, high, color=colour, alpha=0.15, linewidth=0)


def draw_points(axes: Axes, one: Fit, x: Tensor, y: Tensor) -> PathCollection:
    """Draw the runs, coloured by their responsibilities."""
    rising = one.result.responsibilities[:, one.order[0]]
    return axes.scatter(x, y, c=rising, cmap=MEMBERSHIP, vmin=0, vmax=1, s=24, edgecolors="black", linewidths=0.5)


def draw_weights(axes: Axes, one: Fit, grid: Tensor) -> None:
    """Draw the gate's weights as a function of NO."""
    weights = one.result.mixture.gate.weights(grid).detach()
    for colour, k in zip(COLOURS, one.order.tolist(), strict=True):
        axes.plot(grid[:, 0], weights[:, k], color=colour, linewidth=2)
    axes.set(xlabel="Nitric oxide NO (µg/J)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=5, help="starts of each fit")
    parser.add_argument("--output", type=Path, default=HERE / "quickstart.png", help="file of the picture")
    # The tensors are so small that a second thread would not save time.
    torch.set_num_threads(1)
    main(parser.parse_args())
