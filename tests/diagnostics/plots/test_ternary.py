"""The plot of three components' responsibilities in a triangle."""

import numpy as np
import pytest

from mixpyro.diagnostics.plots import plot_ternary


def test_certain_objects_are_in_the_corners() -> None:
    ax = plot_ternary(np.eye(3))
    corners = np.concatenate([points.get_offsets() for points in ax.collections])
    np.testing.assert_allclose(corners, [(0.0, 0.0), (1.0, 0.0), (0.5, np.sqrt(0.75))])
    assert [text.get_text() for text in ax.texts] == ["Component 0", "Component 1", "Component 2"]


def test_two_components_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`responsibilities` must be \[N, 3\]; got \[40, 2\]"):
        plot_ternary(np.full((40, 2), 0.5))
