"""The plot of the experts' means along an input."""

import numpy as np

from mixpyro.diagnostics.arviz_versions import group
from mixpyro.diagnostics.plots import plot_expert_lines
from tests.diagnostics.plots.example import DATA, RESULT, X, lines_by_label


def test_lines_are_the_posterior_means() -> None:
    ax = plot_expert_lines(DATA, RESULT, n_points=10)
    mean = group(DATA, "posterior")["experts.coefficients"].values[0, :, :, 0].mean(0)
    x = np.linspace(float(X.min()), float(X.max()), 10)
    for k in range(3):
        np.testing.assert_allclose(lines_by_label(ax)[str(k)].get_ydata(), mean[k, 0] + mean[k, 1] * x, rtol=1e-8)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("dose", "yield")


def test_an_empty_component_has_no_line() -> None:
    responsibilities = RESULT.responsibilities.numpy()[:, [0, 1, 2]].copy()
    responsibilities[:, 0] += responsibilities[:, 2]
    responsibilities[:, 2] = 0.0
    lines = lines_by_label(plot_expert_lines(DATA, RESULT, responsibilities=responsibilities))
    assert len(lines["2 (empty)"].get_xdata()) == 0
    assert len(lines["0"].get_xdata()) > 0
