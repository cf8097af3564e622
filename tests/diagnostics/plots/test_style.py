"""Colours and lines of components, and texts that are drawn."""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

from mixpyro import LinearExperts, MixtureOfExperts, SoftmaxGate, fit
from mixpyro.diagnostics.plots import plot_component_densities, plot_expert_lines, plot_gate_curve, plot_overview
from mixpyro.diagnostics.plots.style import colour, dashes
from tests.diagnostics.plots.example import RESULT


def test_eight_components_have_different_colours_and_lines() -> None:
    assert len({colour(k) for k in range(8)}) == len({dashes(k) for k in range(8)}) == 8


def test_the_ninth_component_differs_from_the_first_by_its_line() -> None:
    assert colour(8) == colour(0)
    assert dashes(8) != dashes(0)


@pytest.mark.parametrize("value", ["\ud800", "a" * 1001, r"$\frac$", 3, b"y"])
def test_a_label_that_cannot_be_drawn_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^`output_name` must "):
        plot_component_densities(RESULT, output_name=value)


@pytest.mark.parametrize("value", [r"$\hat{y}$", "price in $", "Größe", "a" * 1000])
def test_other_labels_are_drawn_as_they_are(value: str) -> None:
    ax = plot_component_densities(RESULT, output_name=value)
    assert ax.get_xlabel() == value
    ax.figure.canvas.draw()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ["\ud800", "a" * 10_000, r"$\frac$"])
def test_every_name_of_a_column_is_drawn(name: str) -> None:
    x = torch.randn(40, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    table, y = pd.DataFrame({name: x[:, 0].numpy()}), pd.Series(x[:, 0].abs().numpy(), name=name)
    result = fit(MixtureOfExperts(SoftmaxGate(2, 1), LinearExperts(2, 1)), table, y, n_restarts=1, max_iterations=3)
    for plot in (plot_component_densities, plot_expert_lines, plot_gate_curve):
        drawn = plot(result)
        drawn.figure.canvas.draw()
        assert drawn.get_xlabel()
    plot_overview(result).canvas.draw()
    plt.close("all")
