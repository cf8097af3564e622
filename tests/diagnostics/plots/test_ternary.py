"""The plot of three components' responsibilities in a triangle."""

import numpy as np
import pytest

from mixpyro.diagnostics.plots import plot_ternary
from tests.diagnostics.plots.example import RESULT


def test_certain_objects_are_in_the_corners() -> None:
    ax = plot_ternary(np.eye(3))
    corners = np.concatenate([points.get_offsets() for points in ax.collections])
    np.testing.assert_allclose(corners, [(0.0, 0.0), (1.0, 0.0), (0.5, np.sqrt(0.75))])


def test_corners_say_how_many_objects_they_have() -> None:
    ax = plot_ternary(np.array([[1.0, 0.0, 0.0], [0.96, 0.04, 0.0], [0.6, 0.4, 0.0], [0.0, 0.1, 0.9]]))
    assert [text.get_text() for text in ax.texts] == [
        "Component 0\n2 of 3 in the corner",
        "Component 1\n0 of 0 in the corner",
        "Component 2\n0 of 1 in the corner",
    ]


def test_a_result_has_its_own_responsibilities() -> None:
    assert sum(len(np.asarray(points.get_offsets())) for points in plot_ternary(RESULT).collections) == 40


def test_two_components_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"`result` must have three components.*got responsibilities \[40, 2\].*plot_responsibilities"
    ):
        plot_ternary(np.full((40, 2), 0.5))
