"""What do the weights of the components depend on: nothing, the object, the inputs, or how many components there are?

Question: which gate suits a table? Each gate is fitted to real data, and its picture has the experts on the left and
the weights on the right. ``docs/which_gate.md`` shows them with what each gate costs.

Data: the tables in ``data``; their sources are in ``data/README.md``.

Expected answer: about half of the engine runs on each of two lines, and weights that hardly depend on the nitric oxide:
the bound of the gate without inputs is higher. Firms that spend more of their sales on research are in other components
more often, by how much 70 firms do not say. Three groups of galaxies, of fifteen allowed. One waiting time says little
of the weights of its own eruption: they stay between a quarter and three quarters.
"""

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pyro.nn import DenseNN
from torch import Tensor

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    FitResult,
    GaussianExperts,
    GLMExperts,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    NeuralGate,
    SoftmaxGate,
    StickBreakingGate,
    TreeGate,
    fit,
    to_arviz,
)
from mixpyro.diagnostics.arviz_versions import ArvizData
from mixpyro.diagnostics.plots import (
    plot_component_densities,
    plot_expert_lines,
    plot_gate_curve,
    plot_gate_map,
    plot_weights_forest,
)
from mixpyro.experts import Experts
from mixpyro.experts.families import Poisson
from mixpyro.gates import Gate

HERE = Path(__file__).parent


class Case(NamedTuple):
    """A gate and the table that it is fitted to: columns of x, of y and of the gate's own inputs."""

    gate: Callable[[], Gate]
    experts: Callable[[], Experts]
    table: str
    y: tuple[str, ...]
    x: tuple[str, ...] = ()
    gate_x: tuple[str, ...] = ()


RUNS: Any = {"experts": lambda: LinearExperts(2, 1), "table": "ethanol", "y": ("Equivalence",), "x": ("NO",)}
FIRMS: Any = {"experts": lambda: GLMExperts(3, 1, Poisson()), "table": "patent", "y": ("Patents",), "x": ("lgRD",)}
ERUPTIONS: Any = {"experts": lambda: GaussianExperts(2, 1), "table": "old_faithful", "y": ("waiting",)}
GALAXIES: Any = {"experts": lambda: GaussianExperts(15, 1), "table": "galaxies", "y": ("dat",)}
CASES = {
    "dirichlet": Case(lambda: DirichletGate(2), **RUNS),
    "object_dirichlet": Case(lambda: MarginalObjectDirichletGate(2), **ERUPTIONS),
    "softmax": Case(lambda: SoftmaxGate(3, 1), **FIRMS, gate_x=("RDS",)),
    "bayesian_softmax": Case(lambda: BayesianSoftmaxGate(2, 1), **RUNS),
    "neural": Case(
        lambda: NeuralGate(2, DenseNN(1, [8], [2], nonlinearity=torch.nn.Tanh()).double(), prior_scale=1.0), **RUNS
    ),
    "tree": Case(lambda: TreeGate(((0, 1), 2), 2), **FIRMS, gate_x=("lgRD", "RDS")),
    "stick_breaking": Case(lambda: StickBreakingGate(15), **GALAXIES),
}


def main(args: argparse.Namespace) -> None:
    """Fit and draw every gate, and print a line on each."""
    args.output.mkdir(exist_ok=True, parents=True)
    for name in args.gates:
        case = CASES[name]
        torch.manual_seed(0)
        start = time.perf_counter()
        result, rows = fitted(case, args.restarts)
        seconds = time.perf_counter() - start
        print(f"{name}, {result.mixture.n_components} components, {seconds:.1f} s: {result}")
        figure = draw(result, case, rows, args.draws)
        figure.savefig(args.output / f"{name}.png", dpi=90)


def read(table: str, columns: tuple[str, ...]) -> Tensor:
    """Return columns of a table [N, D]."""
    with (HERE / "data" / f"{table}.csv").open() as file:
        rows = [[float(row[column]) for column in columns] for row in csv.DictReader(file)]
    return torch.tensor(rows, dtype=torch.float64)


def fitted(case: Case, n_restarts: int) -> tuple[FitResult, dict[str, Any]]:
    """Return the fit of a case, and its rows."""
    x, y = read(case.table, case.x), read(case.table, case.y)
    rows: dict[str, Any] = {"x": x, "y": y} | ({"gate_x": read(case.table, case.gate_x)} if case.gate_x else {})
    result = fit(MixtureOfExperts(case.gate(), case.experts()), **rows, n_restarts=n_restarts, progress=False)
    return result.without_empty() if isinstance(result.mixture.gate, StickBreakingGate) else result, rows


def draw(result: FitResult, case: Case, rows: dict[str, Any], n_draws: int) -> Figure:
    """Draw the experts on the left and the weights on the right."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    data = to_arviz(result, **rows, n_draws=n_draws, feature_names=case.x, output_names=case.y, progress=False)
    if case.x:
        plot_expert_lines(data, result, responsibilities=result.responsibilities.numpy(), ax=left)
    else:
        plot_component_densities(result, **rows, output_name=case.y[0], ax=left)
    draw_weights(result, case, rows, data, right)
    return figure


def draw_weights(result: FitResult, case: Case, rows: dict[str, Any], data: ArvizData, ax: Axes) -> None:
    """Draw the weights: of all objects, of each, along an input, or on two of them."""
    if isinstance(result.mixture.gate, MarginalObjectDirichletGate):
        weights = result.mixture.gate.weights(rows["x"], objects=slice(None))
        ax.scatter(rows["y"][:, 0], weights[:, 0], s=12)
        ax.set(xlabel=case.y[0], ylabel="Weight of component 0 of each object", ylim=(0, 1))
    elif len(case.gate_x) == 2:
        plot_gate_map(data, result, ax=ax).set(xlabel=case.gate_x[0], ylabel=case.gate_x[1])
    elif isinstance(result.mixture.gate, DirichletGate | StickBreakingGate):
        plot_weights_forest(data, ax=ax)
    else:
        plot_gate_curve(data, result, ax=ax).set(xlabel=(case.gate_x or case.x)[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", nargs="+", choices=CASES, default=list(CASES), help="which to fit")
    parser.add_argument("--restarts", type=int, default=10, help="starts of each fit")
    parser.add_argument("--draws", type=int, default=400, help="draws from each posterior")
    parser.add_argument("--output", type=Path, default=HERE / "docs" / "which_gate", help="folder of the pictures")
    torch.set_num_threads(1)
    main(parser.parse_args())
