"""Names of axes, columns and rows."""

import numpy as np
import pytest
import torch

from mixpyro.diagnostics.names import coordinates, named, site_axes

pandas = pytest.importorskip("pandas")

LABELS = coordinates(n_components=2, objects=np.arange(5), features=["dose", "age"], outputs=["yield"])


def test_columns_are_named_by_the_caller_the_table_or_a_number() -> None:
    tensor, table = torch.zeros(5, 2), pandas.DataFrame({"a": [1, 2], "b": [3, 4]}, index=["first", "second"])
    assert named(tensor, ["left", "right"], argument="names", prefix="x").columns == ["left", "right"]
    assert named(tensor, None, argument="names", prefix="x").columns == ["x0", "x1"]
    result = named(table, None, argument="names", prefix="x")
    assert result.columns == ["a", "b"]
    assert result.rows.tolist() == ["first", "second"]
    assert torch.equal(result.values, torch.tensor([[1.0, 3.0], [2.0, 4.0]]).double())
    with pytest.raises(ValueError, match="`names` must be 2 names, one a column; got 1"):
        named(tensor, ["left"], argument="names", prefix="x")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 1, 3), ("component", "output", "regressor")),
        ((2, 1, 2), ("component", "output", "feature")),
        ((2, 4, 3), ("component", "experts.w_dim_1", "regressor")),
        ((2, 1, 3, 3), ("component", "output", "regressor", "experts.w_dim_3")),
    ],
)
def test_axes_that_do_not_fit_are_numbered(shape: tuple[int, ...], expected: tuple[str, ...]) -> None:
    assert site_axes("experts.w", shape, {"w": ("component", "output", "regressor")}, LABELS) == expected


def test_the_first_axis_of_an_unknown_site_is_the_component() -> None:
    assert site_axes("gate.scale", (2,), {}, LABELS) == ("component",)
