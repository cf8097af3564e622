"""The plot of the weights' intervals."""

import numpy as np
import pytest

from mixpyro import to_arviz
from mixpyro.diagnostics.arviz_versions import group
from mixpyro.diagnostics.plots import plot_weights_forest
from tests.diagnostics.fits import fitted
from tests.diagnostics.plots.example import DATA


def test_intervals_are_quantiles_of_the_draws() -> None:
    ax = plot_weights_forest(DATA)
    draws = group(DATA, "posterior")["gate.weights"].values[0]
    for k in range(3):
        thin, thick = (np.asarray(ax.collections[2 * k + i].get_paths()[0].vertices)[:, 0] for i in range(2))
        np.testing.assert_allclose(thin, np.quantile(draws[:, k], [0.05, 0.95]))
        np.testing.assert_allclose(thick, np.quantile(draws[:, k], [0.25, 0.75]))


def test_weights_of_single_objects_are_refused() -> None:
    result, x, y = fitted("object")
    with pytest.raises(ValueError, match=r"`data` must have draws of 'gate\.weights' that all objects share"):
        plot_weights_forest(to_arviz(result, x, y, n_draws=3))
