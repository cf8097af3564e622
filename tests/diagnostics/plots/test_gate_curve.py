"""The plot of gate weights along an input."""

import numpy as np
import pytest

from mixpyro import to_arviz
from mixpyro.diagnostics.arviz_versions import group
from mixpyro.diagnostics.plots import plot_gate_curve
from tests.diagnostics.fits import fitted
from tests.diagnostics.plots.example import DATA, RESULT, lines_by_label, remark


def test_the_curve_is_the_mean_weight_with_its_band() -> None:
    ax = plot_gate_curve(DATA, RESULT, probability=0.8)
    weights = group(DATA, "posterior")["gate.weights"].values[0]
    for k in range(3):
        np.testing.assert_allclose(lines_by_label(ax)[str(k)].get_ydata(), weights[:, k].mean(), rtol=1e-10)
        band = np.asarray(ax.collections[k].get_paths()[0].vertices)[:, 1]
        expected = np.quantile(weights[:, k], [0.1, 0.9])
        np.testing.assert_allclose([band.min(), band.max()], expected, rtol=1e-10)
    assert ax.get_xlabel() == "dose"


@pytest.mark.parametrize("name", ["sticks", "object"])
def test_curves_of_a_result_are_the_weights_of_its_gate(name: str) -> None:
    result, x, _ = fitted(name)
    ax = plot_gate_curve(result, feature="x0", n_points=7)
    line = lines_by_label(ax)["1"]
    points = x.new_tensor(line.get_xdata()).unsqueeze(-1)
    np.testing.assert_allclose(line.get_ydata(), result.mixture.gate.weights(points)[:, 1].detach(), rtol=1e-12)
    has_bands = name != "object"  # whose population's mean is given
    assert len(ax.collections) == (2 if has_bands else 0)
    assert ("no bands" in remark(ax)) != has_bands


def test_a_gate_without_draws_has_no_band() -> None:
    result, x, y = fitted("neural")
    ax = plot_gate_curve(to_arviz(result, x, y, n_draws=9, intervals="mean field"), result)
    assert not ax.collections
    assert remark(ax) == "no bands: the gate's parameters are estimates without standard errors"
