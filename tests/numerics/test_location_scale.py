"""Robust location and scale of columns."""

import numpy as np
import pytest
import torch

from mixpyro.numerics import location_scale as module
from mixpyro.numerics.location_scale import NORMAL_POINT, location_scale
from tests.problems import inputs


def test_they_are_the_median_and_the_nine_tenths_point_of_the_distances() -> None:
    x = inputs(41, 3)
    found = location_scale(x)
    median = np.median(x.numpy(), axis=0)
    distances = np.quantile(np.abs(x.numpy() - median), 0.9, axis=0, method="inverted_cdf")
    np.testing.assert_allclose(found.location.numpy(), median)
    np.testing.assert_allclose(found.scale.numpy(), distances / NORMAL_POINT)


@pytest.mark.parametrize("n", [40, 41])
def test_an_even_number_of_rows_has_its_median_between_two(n: int) -> None:
    x = inputs(n, 2)
    np.testing.assert_allclose(location_scale(x).location.numpy(), np.median(x.numpy(), axis=0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_normal_data_the_scale_is_the_standard_deviation(dtype: torch.dtype) -> None:
    x = 3.0 * inputs(20_000, 2, dtype=dtype) + 7.0
    found = location_scale(x)
    torch.testing.assert_close(found.scale, torch.full((2,), 3.0).double(), rtol=0.03, atol=0)
    torch.testing.assert_close(found.location, torch.full((2,), 7.0).double(), rtol=0, atol=0.1)


@pytest.mark.parametrize(("factor", "shift"), [(1e-12, 0.0), (-2.0, 5.0), (1e100, -1e100)])
@pytest.mark.parametrize("n", [1, 2, 3, 50])
def test_they_are_equivariant(n: int, factor: float, shift: float) -> None:
    x = inputs(n, 2)
    plain, moved = location_scale(x), location_scale(factor * x + shift)
    torch.testing.assert_close(moved.location, factor * plain.location + shift)
    if n > 1:
        torch.testing.assert_close(moved.scale, abs(factor) * plain.scale, rtol=1e-10, atol=0)


@pytest.mark.parametrize("huge", [1e9, 1e30, 1e300])
@pytest.mark.parametrize("n", [12, 300])
def test_a_huge_value_changes_neither_much(n: int, huge: float) -> None:
    x = inputs(n, 1)
    spoilt = x.clone()
    spoilt[3] = huge
    plain, found = location_scale(x), location_scale(spoilt)
    assert (found.location - plain.location).abs() < plain.scale
    assert found.scale < 3.0 * plain.scale


@pytest.mark.parametrize("unit", [1.0, 1 / 7])
def test_weights_are_repetition(unit: float) -> None:
    x, counts = inputs(31, 2), torch.arange(31) % 4
    repeated, weighted = location_scale(x.repeat_interleave(counts, 0)), location_scale(x, unit * counts.double())
    torch.testing.assert_close(weighted.location, repeated.location)
    torch.testing.assert_close(weighted.scale, repeated.scale)


def test_from_zero_the_distances_are_the_values() -> None:
    x = inputs(50, 1) + 4.0
    found = location_scale(x, from_zero=True)
    assert found.location == 0.0
    torch.testing.assert_close(found.scale * NORMAL_POINT, x.abs().sort(0).values[44])


def test_a_rare_indicator_has_the_scale_of_its_standard_deviation() -> None:
    x = torch.zeros(100, 1)
    x[:5] = 1.0
    torch.testing.assert_close(location_scale(x).scale, torch.tensor([0.05]).double().sqrt())


@pytest.mark.parametrize("value", [0.0, 5.0, 1e9])
def test_a_constant_column_has_scale_one(value: float) -> None:
    found = location_scale(torch.full((20, 1), value).double())
    assert found.location == value
    assert found.scale == 1.0


def test_rows_without_columns_have_neither() -> None:
    assert location_scale(torch.zeros(5, 0)).scale.shape == (0,)


def test_of_many_rows_a_part_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    x = inputs(5000, 2)
    exact = location_scale(x)
    monkeypatch.setattr(module, "MOST_ROWS", 1000)
    found, shifted = location_scale(x), location_scale(x + 9.0)
    torch.testing.assert_close(found.scale, exact.scale, rtol=0.1, atol=0)
    torch.testing.assert_close(shifted.scale, found.scale)
    weights = torch.ones(5000).double()
    torch.testing.assert_close(location_scale(x, weights).scale, found.scale)
