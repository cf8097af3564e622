"""The plot of the weights' intervals."""

import numpy as np
import pytest
import torch

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, SoftmaxGate, StickBreakingGate, fit, to_arviz
from mixpyro.diagnostics.arviz_versions import group
from mixpyro.diagnostics.plots import plot_weights_forest
from mixpyro.gates import Gate
from tests.diagnostics.fits import fitted
from tests.diagnostics.plots.example import DATA, RESULT, X, Y, remark


def test_intervals_are_quantiles_of_the_draws() -> None:
    for ax in (plot_weights_forest(DATA), plot_weights_forest(RESULT, data=DATA)):
        draws = group(DATA, "posterior")["gate.weights"].values[0]
        for k in range(3):
            thin, thick = (np.asarray(ax.collections[2 * k + i].get_paths()[0].vertices)[:, 0] for i in range(2))
            np.testing.assert_allclose(thin, np.quantile(draws[:, k], [0.05, 0.95]))
            np.testing.assert_allclose(thick, np.quantile(draws[:, k], [0.25, 0.75]))


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        (DirichletGate(3, concentration=[1.0, 2.0, 5.0]), [0.125, 0.25, 0.625]),
        # Shares of Beta(1, 1) and what they leave: 1/2, 1/4, 1/8, over their sum.
        (StickBreakingGate(3, concentration=1.0), [4 / 7, 2 / 7, 1 / 7]),
        # A Pitman–Yor process: shares of Beta(1 − d, α + k d), d = ½, α = 1: 1/4, 1/5, 1/6 of what is left.
        (StickBreakingGate(3, concentration=1.0, discount=0.5), [0.25, 0.75 / 5, 0.6 / 6]),
    ],
)
def test_marks_are_the_exact_means_of_the_prior(gate: Gate, expected: list[float]) -> None:
    result = fit(MixtureOfExperts(gate, LinearExperts(3, 1)), X, Y, n_restarts=1, progress=False)
    ax = plot_weights_forest(result)
    marks = np.sort(np.asarray(ax.get_lines()[-1].get_xdata()))
    np.testing.assert_allclose(marks, np.sort(np.array(expected) / np.sum(expected)), rtol=1e-12)
    if isinstance(gate, StickBreakingGate):  # The largest component has broken the stick first.
        assert np.argmax(np.asarray(ax.get_lines()[-1].get_xdata())) == int(result.counts.argmax())
    circles = [float(np.asarray(line.get_xdata())[0]) for line in ax.get_lines()[:3]]
    np.testing.assert_allclose(circles, result.mixture.gate.weights(X)[0], rtol=1e-12)


def test_weights_that_depend_on_x_are_averaged_over_the_rows() -> None:
    gate = SoftmaxGate(3, 1, prior_scale=2.0)
    result = fit(MixtureOfExperts(gate, LinearExperts(3, 1)), X, Y, n_restarts=1, progress=False)
    ax = plot_weights_forest(result)
    circles = [float(np.asarray(line.get_xdata())[0]) for line in ax.get_lines()]
    np.testing.assert_allclose(circles, gate.weights(X).mean(0).detach(), rtol=1e-12)
    assert ax.get_xlabel() == "Average weight over the rows"
    thin = np.asarray(ax.collections[0].get_paths()[0].vertices)[:, 0]
    assert thin[0] < circles[0] < thin[1]


def test_a_mean_of_the_population_that_is_given_has_no_interval() -> None:
    result, *_ = fitted("marginal")
    ax = plot_weights_forest(result)
    assert not ax.collections
    assert remark(ax) == "no intervals: the gate's weights have no posterior"
    np.testing.assert_allclose([float(np.asarray(line.get_xdata())[0]) for line in ax.get_lines()[:2]], [1 / 3, 2 / 3])


def test_weights_of_single_objects_are_refused_without_the_fit() -> None:
    result, x, y = fitted("object")
    with pytest.raises(ValueError, match=r"`data` must have draws of 'gate\.weights' that all objects share"):
        plot_weights_forest(to_arviz(result, x, y, n_draws=3))


def test_one_component_has_all_the_weight() -> None:
    x = torch.linspace(0.0, 1.0, 9).double().unsqueeze(-1)
    result = fit(MixtureOfExperts(DirichletGate(1), LinearExperts(1, 1)), x, x + 0.1 * (9 * x).sin(), progress=False)
    assert [float(np.asarray(line.get_xdata())[0]) for line in plot_weights_forest(result).get_lines()] == [1.0, 1.0]
