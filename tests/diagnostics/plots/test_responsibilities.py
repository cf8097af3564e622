"""The plot of responsibilities as bars."""

import numpy as np

from mixpyro.diagnostics.plots import plot_responsibilities


def test_bars_are_sorted_by_component_and_certainty() -> None:
    ax = plot_responsibilities(np.array([[0.2, 0.8], [0.6, 0.4], [0.9, 0.1], [0.0, 1.0]]))
    heights = [patch.get_data().values for patch in ax.patches]  # type: ignore[attr-defined]
    np.testing.assert_allclose(heights[0], [0.9, 0.6, 0.0, 0.2])
    np.testing.assert_allclose(heights[1], 1.0)
