"""The plot of the predictive density of y."""

import numpy as np
import pytest
from scipy.integrate import trapezoid

from mixpyro.diagnostics.plots import plot_component_densities
from tests.diagnostics.fits import fitted
from tests.diagnostics.plots.example import RESULT, X, Y, lines_by_label


def test_the_components_sum_to_the_predictive_density() -> None:
    lines = lines_by_label(plot_component_densities(RESULT, X, Y, n_points=400))
    total = np.asarray(lines["all"].get_ydata())
    assert 0.8 < trapezoid(total, lines["all"].get_xdata()) < 1.0
    shares = [np.asarray(lines[str(k)].get_ydata()) for k in range(3)]
    np.testing.assert_allclose(np.sum(shares, axis=0), total, rtol=1e-10)


def test_several_outputs_are_refused() -> None:
    result, x, y = fitted(n_outputs=2)
    with pytest.raises(ValueError, match="`y` must have one column; got 2"):
        plot_component_densities(result, x, y)
