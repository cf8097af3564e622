"""The plot of responsibilities as bars."""

import numpy as np
import pandas as pd
import pytest
import torch

from mixpyro.diagnostics.plots import plot_responsibilities
from tests.diagnostics.plots.example import RESULT


def test_bars_are_sorted_by_component_and_certainty() -> None:
    ax = plot_responsibilities(np.array([[0.2, 0.8], [0.6, 0.4], [0.9, 0.1], [0.0, 1.0]]))
    heights = [patch.get_data().values for patch in ax.patches]  # type: ignore[attr-defined]
    np.testing.assert_allclose(heights[0], [0.9, 0.6, 0.0, 0.2])
    np.testing.assert_allclose(heights[1], 1.0)


def test_a_result_has_its_own() -> None:
    heights = plot_responsibilities(RESULT).patches[0].get_data().values  # type: ignore[attr-defined]
    np.testing.assert_allclose(np.sort(heights), np.sort(RESULT.responsibilities[:, 0]))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`result` must be what `fit` returned, or responsibilities \[N, K\]; got"):
        plot_responsibilities(np.zeros(3))


NUMBERS = [[0.25, 0.75], [1.0, 0.0]]
TABLES = [NUMBERS, torch.tensor(NUMBERS), *(pd.DataFrame(NUMBERS).astype(dtype) for dtype in ("Float64", "float32"))]


@pytest.mark.parametrize("table", TABLES, ids=["list", "tensor", "numbers with a mask", "frame"])
def test_tables_of_numbers_are_read(table: object) -> None:
    heights = plot_responsibilities(table).patches[0].get_data().values  # type: ignore[attr-defined]
    np.testing.assert_allclose(heights, [1.0, 0.25])


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize("odd", [None, "a", [["0.5", "0.5"]], torch.eye(2).to_sparse(), pd.DataFrame({"a": ["1"]})])
def test_what_holds_no_numbers_is_refused(odd: object) -> None:
    with pytest.raises(TypeError, match="`result` must be "):
        plot_responsibilities(odd)
