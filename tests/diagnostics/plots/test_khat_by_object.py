"""The plot of k-hat by object."""

import numpy as np

from mixpyro.diagnostics import Elpd
from mixpyro.diagnostics.plots import plot_khat


def test_unreliable_objects_have_numbers_that_do_not_overlap() -> None:
    k = np.full(100, 0.2)
    k[[10, 12, 60]] = 1.5, 1.49, 0.9
    ax = plot_khat(Elpd(0.0, 1.0, 1.0, np.zeros(100), k, 1000))
    assert {text.get_text() for text in ax.texts} == {"0.67", "10", "60"}
