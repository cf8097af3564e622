"""Pictures: what is drawn is what the numbers are, on the axes given, and nothing else changes."""

from collections.abc import Callable, Iterator
from typing import Any

import matplotlib
import numpy as np
import pytest
from scipy.integrate import trapezoid

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from mixpyro import to_arviz
from mixpyro.diagnostics import loo
from mixpyro.diagnostics.arviz_versions import Elpd, group
from mixpyro.diagnostics.plots import (
    plot_bound_traces,
    plot_component_densities,
    plot_expert_lines,
    plot_gate_curve,
    plot_gate_map,
    plot_khat,
    plot_responsibilities,
    plot_ternary,
    plot_weights_forest,
)
from mixpyro.diagnostics.plots.style import COLOURS, LINES
from tests.diagnostics.fits import fitted

R, X, Y = fitted("dirichlet", 3)
DATA = to_arviz(R, X, Y, n_draws=60, feature_names=["dose"], output_names=["yield"])
PICTURES: dict[str, Callable[..., Axes]] = {
    "gate curve": lambda **options: plot_gate_curve(DATA, R, n_points=20, **options),
    "gate map": lambda **options: plot_gate_map(DATA, R, features=(0, 0), n_points=8, **options),
    "expert lines": lambda **options: plot_expert_lines(DATA, R, n_points=20, **options),
    "responsibilities": lambda **options: plot_responsibilities(R.responsibilities.numpy(), **options),
    "ternary": lambda **options: plot_ternary(R.responsibilities.numpy(), **options),
    "forest": lambda **options: plot_weights_forest(DATA, **options),
    "bounds": lambda **options: plot_bound_traces(R, **options),
    "k-hat": lambda **options: plot_khat(loo(DATA), **options),
    "densities": lambda **options: plot_component_densities(R, X, Y, n_points=400, **options),
}


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """No figure is left open."""
    yield
    plt.close("all")


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_takes_an_axes_and_returns_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plt, "show", lambda *arguments, **options: pytest.fail("a picture was shown"))
    before = dict(matplotlib.rcParams)
    figure, ax = plt.subplots()
    assert PICTURES[name](ax=ax) is ax
    own = PICTURES[name]()
    assert own.figure is not figure
    own.figure.canvas.draw()
    assert dict(matplotlib.rcParams) == before


def lines_by_label(ax: Axes) -> dict[str, Any]:
    """The curves of components."""
    return {str(line.get_label()): line for line in ax.get_lines()}


def test_the_gate_curve_is_the_mean_weight_with_its_band() -> None:
    ax = plot_gate_curve(DATA, R, probability=0.8)
    weights = group(DATA, "posterior")["gate.weights"].values[0]
    for k in range(3):
        np.testing.assert_allclose(lines_by_label(ax)[str(k)].get_ydata(), weights[:, k].mean(), rtol=1e-10)
        band = np.asarray(ax.collections[k].get_paths()[0].vertices)[:, 1]
        expected = np.quantile(weights[:, k], [0.1, 0.9])
        np.testing.assert_allclose([band.min(), band.max()], expected, rtol=1e-10)
    assert ax.get_xlabel() == "dose"


def test_a_gate_without_draws_has_no_band() -> None:
    result, x, y = fitted("neural")
    assert not plot_gate_curve(to_arviz(result, x, y, n_draws=9), result).collections


def test_expert_lines_are_the_posterior_means() -> None:
    ax = plot_expert_lines(DATA, R, n_points=10)
    mean = group(DATA, "posterior")["experts.coefficients"].values[0, :, :, 0].mean(0)
    along = np.linspace(float(X.min()), float(X.max()), 10)
    for k in range(3):
        np.testing.assert_allclose(lines_by_label(ax)[str(k)].get_ydata(), mean[k, 0] + mean[k, 1] * along, rtol=1e-8)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("dose", "yield")


def test_an_empty_component_has_no_line() -> None:
    responsibilities = R.responsibilities.numpy()[:, [0, 1, 2]].copy()
    responsibilities[:, 0] += responsibilities[:, 2]
    responsibilities[:, 2] = 0.0
    curves = lines_by_label(plot_expert_lines(DATA, R, responsibilities=responsibilities))
    assert len(curves["2 (empty)"].get_xdata()) == 0
    assert len(curves["0"].get_xdata()) > 0


def test_densities_are_the_predictive_distribution() -> None:
    ax = plot_component_densities(R, X, Y, n_points=400)
    total = lines_by_label(ax)["all"]
    y = np.asarray(total.get_ydata())
    mass = trapezoid(y, total.get_xdata())
    assert 0.8 < mass < 1.0
    parts = [np.asarray(lines_by_label(ax)[str(k)].get_ydata()) for k in range(3)]
    np.testing.assert_allclose(np.sum(parts, axis=0), y, rtol=1e-10)


def test_eight_components_look_different() -> None:
    assert len(set(COLOURS)) == len(set(LINES)) == 8


def test_untrusted_objects_are_named_without_overlap() -> None:
    k = np.full(100, 0.2)
    k[[10, 12, 60]] = 1.5, 1.49, 0.9
    ax = plot_khat(Elpd(0.0, 1.0, 1.0, np.zeros(100), k, 1000))
    assert {text.get_text() for text in ax.texts} == {"0.67", "10", "60"}


def test_what_cannot_be_drawn_is_refused() -> None:
    result, x, y = fitted("object")
    with pytest.raises(ValueError, match=r"`data` must have draws of 'gate\.weights' that all objects share"):
        plot_weights_forest(to_arviz(result, x, y, n_draws=3))
    with pytest.raises(ValueError, match=r"`responsibilities` must be \[N, 3\]; got \[40, 2\]"):
        plot_ternary(result.responsibilities.numpy())
    with pytest.raises(ValueError, match="`feature` must be below 1, the number of columns; got 4"):
        plot_gate_curve(DATA, R, feature=4)
    result, x, y = fitted(n_outputs=2)
    with pytest.raises(ValueError, match="`y` must have one column; got 2"):
        plot_component_densities(result, x, y)
