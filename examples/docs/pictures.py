"""What does each picture of a fit show?

Question: which plots are there, and what does one learn from each? This script draws those of ``pictures.md`` from the
tables in ``examples/data``: two lines of engine runs, three kinds of firms with counts of patents, teeth of children,
and speeds of galaxies.

Expected answer: one file for each picture in ``pictures``, and a line on each fit.
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from mixpyro import (
    DirichletGate,
    FitResult,
    GaussianExperts,
    GLMExperts,
    HeterogeneousExperts,
    LinearExperts,
    MixtureOfExperts,
    PointMassExperts,
    SoftmaxGate,
    StickBreakingGate,
    TreeGate,
    fit,
)
from mixpyro.diagnostics import plots
from mixpyro.experts.families import Poisson

HERE = Path(__file__).parent
DATA = HERE.parent / "data"
MOST_BYTES = 80_000


def main(args: argparse.Namespace) -> None:
    """Fit the tables, draw every picture, and print a line on each fit."""
    args.output.mkdir(parents=True, exist_ok=True)
    fits = {name: make(args.restarts) for name, make in FITS.items()}
    for name, result in fits.items():
        print(f"{name}, {result.mixture.n_components} components: {result}")
    for name, (of, draw, size) in PICTURES.items():
        figure = Figure(figsize=size, layout="constrained")
        draw(fits[of], figure.subplots())
        save(figure, args.output / f"{name}.png", args.dpi)
    save(fits["patents"].plot(), args.output / "overview.png", args.dpi)


def save(figure: Figure, path: Path, dpi: int) -> None:
    """Write a picture without transparency; of 256 colours where it would take more than 80 kB."""
    file = io.BytesIO()
    figure.savefig(file, dpi=dpi)
    picture = Image.open(file).convert("RGB")
    picture.save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def fit_engines(n_restarts: int) -> FitResult:
    """Fit two lines of the equivalence ratio on nitric oxide."""
    table = pandas.read_csv(DATA / "ethanol.csv")
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    return fit(mixture, table[["NO"]], table["Equivalence"], n_restarts=n_restarts, progress=False)


def fit_patents(n_restarts: int) -> FitResult:
    """Fit three kinds of firms, whose weights depend on R&D spending over sales."""
    table = pandas.read_csv(DATA / "patent.csv")
    mixture = MixtureOfExperts(SoftmaxGate(3, 1), GLMExperts(3, 1, Poisson()))
    x, y, gate_x = table[["lgRD"]], table["Patents"], table[["RDS"]]
    return fit(mixture, x, y, gate_x=gate_x, n_restarts=n_restarts, progress=False)


def fit_patents_by_two(n_restarts: int) -> FitResult:
    """Fit three kinds of firms with a tree that reads two columns, the second as a logarithm."""
    table = pandas.read_csv(DATA / "patent.csv")
    table["log RDS"] = torch.tensor(table["RDS"].to_numpy()).log().numpy()
    mixture = MixtureOfExperts(TreeGate(((0, 1), 2), 2), GLMExperts(3, 1, Poisson()))
    x, y, gate_x = table[["lgRD"]], table["Patents"], table[["lgRD", "log RDS"]]
    return fit(mixture, x, y, gate_x=gate_x, n_restarts=n_restarts, progress=False)


def fit_teeth(n_restarts: int) -> FitResult:
    """Fit children without decayed teeth, and others whose number of them has a Poisson distribution."""
    table = pandas.read_csv(DATA / "dmft.csv")
    mixture = MixtureOfExperts(
        DirichletGate(2), HeterogeneousExperts([PointMassExperts(1), GLMExperts(1, 0, Poisson())])
    )
    return fit(mixture, table[[]], table["End"], n_restarts=n_restarts, progress=False)


def fit_galaxies(n_restarts: int) -> FitResult:
    """Fit as many normal distributions of the speeds of galaxies as the data ask for."""
    table = pandas.read_csv(DATA / "galaxies.csv") / 1000.0
    table.columns = ["speed (1000 km/s)"]
    mixture = MixtureOfExperts(StickBreakingGate(15), GaussianExperts(15, 1))
    return fit(mixture, table[[]], table, n_restarts=n_restarts, progress=False).without_empty()


FITS: dict[str, Callable[[int], FitResult]] = {
    "engines": fit_engines,
    "patents": fit_patents,
    "patents by two": fit_patents_by_two,
    "teeth": fit_teeth,
    "galaxies": fit_galaxies,
}
SIZE = (5.8, 3.6)
Draw = Callable[[FitResult, Axes], Any]
PICTURES: dict[str, tuple[str, Draw, tuple[float, float]]] = {
    "expert_lines": ("engines", lambda result, ax: plots.plot_expert_lines(result, feature="NO", ax=ax), SIZE),
    "expert_counts": ("patents", lambda result, ax: plots.plot_expert_lines(result, ax=ax), SIZE),
    "densities": ("galaxies", lambda result, ax: plots.plot_component_densities(result, ax=ax), SIZE),
    "counts": ("teeth", lambda result, ax: plots.plot_component_densities(result, ax=ax), SIZE),
    "gate_curve": ("patents", lambda result, ax: plots.plot_gate_curve(result, feature="RDS", ax=ax), SIZE),
    "gate_map": ("patents by two", lambda result, ax: plots.plot_gate_map(result, ax=ax), (5.4, 3.7)),
    "weights": ("galaxies", lambda result, ax: plots.plot_weights_forest(result, ax=ax), (5.4, 3.0)),
    "responsibilities": ("engines", lambda result, ax: plots.plot_responsibilities(result, ax=ax), (6.5, 2.8)),
    "ternary": ("patents", lambda result, ax: plots.plot_ternary(result, ax=ax), (4.4, 4.2)),
    "bounds": ("patents", lambda result, ax: plots.plot_bound_traces(result, ax=ax), SIZE),
    "optima": ("patents", lambda result, ax: plots.plot_optima(result, ax=ax), (6.2, 2.8)),
    "information": ("patents", lambda result, ax: plots.plot_information_lost(result, ax=ax), (6.2, 3.6)),
    "khat": ("engines", lambda result, ax: plots.plot_khat(result, ax=ax), SIZE),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=20, help="starts of each fit")
    parser.add_argument("--dpi", type=int, default=110, help="of the pictures")
    parser.add_argument("--output", type=Path, default=HERE / "pictures", help="folder of the pictures")
    # The tensors are so small that a second thread would not save time.
    torch.set_num_threads(1)
    main(parser.parse_args())
