"""Which gate explains the engine runs best, and can its posterior be trusted?

Question: the quickstart fits two lines with a gate that is the same for all runs, and with one that reads the nitric
oxide (NO). Which one predicts better? Does a third line help? Can the intervals be trusted?

Data: 88 runs of a single-cylinder engine on ethanol, ``data/ethanol.csv``.

Expected answer: two lines are better than one by 101 nats. A third line looks better by 5 ± 4 nats, but importance
sampling cannot be trusted for any of its objects. The gate that reads NO looks better by 1.0 nats, and refits give
0.5 ± 2.0 nats: no difference. k-hat of the posterior with the global gate is 0.35, so that its draws, reweighted,
represent the exact posterior, and weighting them hardly changes an interval. Data simulated from the model look like
the data.

Source: Brinkman (1981), Ethanol fuel: a single-cylinder engine study of efficiency and exhaust emissions, SAE
Transactions 90; analysed by Hurn, Justel, Robert (2003), Estimating mixtures of regressions.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from mixpyro import DirichletGate, FitResult, LinearExperts, MixtureOfExperts, SoftmaxGate, fit, to_arviz
from mixpyro.diagnostics import ResponsibilityDraws, compare_loo, exact_loo, khat, loo, loo_table, resample
from mixpyro.diagnostics import predictive_checks as check
from mixpyro.diagnostics.plots import plot_expert_lines, plot_khat, plot_responsibilities, plot_weights_forest
from mixpyro.gates import Gate

HERE = Path(__file__).parent
BEST = "global gate, 2 lines"


def main(args: argparse.Namespace) -> None:
    """Fit the models, compare them, check the best one, and draw it."""
    x, y = read_data(HERE / "data" / "ethanol.csv")
    fits = fit_all(x, y, args.restarts)
    names: dict[str, Any] = {"feature_names": ["Nitric oxide NO (µg/J)"], "output_names": ["Equivalence ratio"]}
    draws = {name: to_arviz(result, x, y, n_draws=args.draws, **names) for name, result in fits.items()}
    print_comparison(draws)
    if not args.no_refits:
        print_refits(fits, x, y)
    print_trust(draws[BEST])
    args.output.mkdir(parents=True, exist_ok=True)
    draw_fit(fits[BEST], draws[BEST], x, y).savefig(args.output / "diagnose_fit.png", dpi=110)
    draw_trust(draws[BEST]).savefig(args.output / "diagnose_trust.png", dpi=110)


def read_data(path: Path) -> tuple[Tensor, Tensor]:
    """Return nitric oxide [N, 1] and equivalence ratio [N, 1]."""
    with path.open() as file:
        rows = [(float(row["NO"]), float(row["Equivalence"])) for row in csv.DictReader(file)]
    x, y = torch.tensor(rows, dtype=torch.float64).split(1, dim=1)
    return x, y


def fit_all(x: Tensor, y: Tensor, n_restarts: int) -> dict[str, FitResult]:
    """Fit one to three lines with a global gate, and two with a gate that reads NO."""
    gates: dict[str, Gate] = {
        "global gate, 1 line": DirichletGate(1),
        BEST: DirichletGate(2),
        "global gate, 3 lines": DirichletGate(3),
        "gate of NO, 2 lines": SoftmaxGate(2, 1, prior_scale=2.0),
    }
    return {
        name: fit(MixtureOfExperts(gate, LinearExperts(gate.n_components, 1)), x, y, n_restarts=n_restarts)
        for name, gate in gates.items()
    }


def print_comparison(draws: dict[str, Any]) -> None:
    """Compare all models by importance sampling."""
    print("Leave-one-out by importance sampling:")
    print(loo_table(compare_loo(draws)))


def print_refits(fits: dict[str, FitResult], x: Tensor, y: Tensor) -> None:
    """Compare the two models of two lines by 88 refits each."""
    refitted = {name: exact_loo(result, x, y) for name, result in fits.items() if name.endswith("2 lines")}
    print("Leave-one-out by refits:")
    print(loo_table(compare_loo(refitted)))


def print_trust(data: Any) -> None:  # noqa: ANN401 (an InferenceData or a DataTree, by ArviZ's version)
    """Print k-hat, the components' weights before and after resampling, and predictive checks."""
    print(f"{BEST}: k-hat {khat(data):.2f} of the posterior; {loo(data)}")
    for name, draws in (("posterior", data), ("resampled", resample(data))):
        weights = draws["posterior"]["gate.weights"].values.reshape(-1, 2)
        intervals = ", ".join("{:.3f} to {:.3f}".format(*np.quantile(part, [0.05, 0.95])) for part in weights.T)
        print(f"90 % intervals of the components' weights, {name}: {intervals}")
    for name, found in check(data).items():
        print(f"{name:<20}{found}")


def draw_fit(result: FitResult, data: Any, x: Tensor, y: Tensor) -> Figure:  # noqa: ANN401
    """Draw the lines, and the responsibilities of each run."""
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    summary = ResponsibilityDraws(data, result, x, y).summary()
    plot_expert_lines(data, result, responsibilities=summary.mean, ax=left)
    plot_responsibilities(summary.mean, ax=right)
    left.get_legend().remove()
    return figure


def draw_trust(data: Any) -> Figure:  # noqa: ANN401
    """Draw the weights with their intervals, and k-hat of every run's leave-one-out estimate."""
    figure = Figure(figsize=(9.5, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    plot_weights_forest(data, ax=left)
    plot_khat(loo(data), ax=right)
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=20, help="starts of each fit")
    parser.add_argument("--draws", type=int, default=4000, help="draws of each posterior")
    parser.add_argument("--no-refits", action="store_true", help="leave out the 176 refits")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the two pictures")
    # The tensors are so small that a second thread would not save time.
    torch.set_num_threads(1)
    main(parser.parse_args())
