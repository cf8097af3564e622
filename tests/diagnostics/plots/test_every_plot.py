"""What all plots have in common: they draw on the axes given, and nothing else changes."""

import inspect
from collections.abc import Callable

import matplotlib
import matplotlib.pyplot as plt
import pytest
from matplotlib.axes import Axes

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit
from mixpyro.diagnostics import loo, plots
from mixpyro.diagnostics.plots import (
    plot_bound_traces,
    plot_component_densities,
    plot_expert_lines,
    plot_gate_curve,
    plot_gate_map,
    plot_information_lost,
    plot_khat,
    plot_optima,
    plot_responsibilities,
    plot_ternary,
    plot_weights_forest,
)
from tests.diagnostics.plots.example import DATA, RESULT, X, Y

PLOTS: dict[str, Callable[..., Axes]] = {
    "plot_bound_traces": lambda **options: plot_bound_traces(RESULT, **options),
    "plot_component_densities": lambda **options: plot_component_densities(RESULT, X, Y, n_points=400, **options),
    "plot_expert_lines": lambda **options: plot_expert_lines(DATA, RESULT, n_points=20, **options),
    "plot_gate_curve": lambda **options: plot_gate_curve(DATA, RESULT, n_points=20, **options),
    "plot_gate_map": lambda **options: plot_gate_map(DATA, RESULT, features=(0, 0), n_points=8, **options),
    "plot_information_lost": lambda **options: plot_information_lost(RESULT, **options),
    "plot_khat": lambda **options: plot_khat(loo(DATA), **options),
    "plot_optima": lambda **options: plot_optima(RESULT, **options),
    "plot_responsibilities": lambda **options: plot_responsibilities(RESULT.responsibilities.numpy(), **options),
    "plot_ternary": lambda **options: plot_ternary(RESULT.responsibilities.numpy(), **options),
    "plot_weights_forest": lambda **options: plot_weights_forest(DATA, **options),
}


def test_every_plot_is_tested_here() -> None:
    assert sorted([*PLOTS, "plot_overview"]) == plots.__all__
    assert all(inspect.isfunction(getattr(plots, name)) for name in PLOTS)


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_draws_on_its_axes_and_returns_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plt, "show", lambda *arguments, **options: pytest.fail("a figure was shown"))
    before = dict(matplotlib.rcParams)
    figure, ax = plt.subplots()
    assert PLOTS[name](ax=ax) is ax
    own = PLOTS[name]()
    assert own.figure is not figure
    own.figure.canvas.draw()
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", [name for name in plots.__all__ if name != "plot_overview"])
def test_a_plot_takes_a_result_alone(name: str) -> None:
    plot = getattr(plots, name)
    options = {"features": (0, 0)} if name == "plot_gate_map" else {}
    assert isinstance(plot(RESULT, **options), Axes)
    assert next(iter(inspect.signature(plot).parameters)) == "result"


@pytest.mark.parametrize("wrong", [None, "firms", RESULT.mixture])
@pytest.mark.parametrize("plot", [plot_bound_traces, plot_optima, plot_responsibilities, plot_ternary])
def test_a_plot_of_a_fit_says_that_it_needs_one(plot: Callable[..., Axes], wrong: object, bad_arguments: None) -> None:
    with pytest.raises(TypeError, match=r"`result` must be what `fit` returned"):
        plot(wrong)


@pytest.mark.parametrize(
    ("plot", "n_columns", "advice"),
    [
        (plot_gate_map, 1, "got one, x0. Plot `plot_gate_curve`"),
        (plot_gate_map, 0, "reads no column. Plot `plot_weights_forest`"),
        (plot_gate_curve, 0, "reads no column. Plot `plot_weights_forest`"),
    ],
)
def test_plots_of_a_gate_with_too_few_inputs_name_another(
    plot: Callable[..., Axes], n_columns: int, advice: str
) -> None:
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, n_columns))
    result = fit(mixture, X[:, :n_columns], Y, n_restarts=1, progress=False)
    with pytest.raises(ValueError, match=advice):
        plot(result)
