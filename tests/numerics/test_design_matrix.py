"""Design matrices, and coefficients in shifted and scaled columns."""

import pytest
import torch

from mixpyro.numerics.design_matrix import Origin, columns_from, joined_columns, standardised, with_intercept
from tests.problems import inputs


def test_the_intercept_comes_first() -> None:
    x = inputs(5, 2)
    assert torch.equal(with_intercept(x), torch.cat([torch.ones(5, 1).double(), x], 1))


def test_standardised_columns_have_median_zero_and_nine_tenths_within_the_normal_point() -> None:
    x = inputs(50, 2) * torch.tensor([1e6, 1e-6]).double() + torch.tensor([1e9, 2000.0]).double()
    u, transform = standardised(x)
    middle = u[:, 1:].sort(0).values[24:26].mean(0)
    torch.testing.assert_close(middle, torch.zeros(2).double(), rtol=0, atol=1e-6)
    assert ((u[:, 1:].abs() <= 1.6448536269514722 * (1 + 1e-12)).sum(0) == 45).all()
    torch.testing.assert_close(with_intercept(x) @ transform, u, rtol=0, atol=1e-5)


def test_the_transform_takes_coefficients_back() -> None:
    x = inputs(50, 2) + 3.0
    u, transform = standardised(x)
    coefficients = torch.tensor([1.0, -2.0, 0.5]).double()
    torch.testing.assert_close(with_intercept(x) @ (transform @ coefficients), u @ coefficients)


def test_a_constant_column_is_shifted_and_not_scaled() -> None:
    x = torch.full((5, 1), 7.0).double()
    u, _ = standardised(x)
    assert torch.equal(u[:, 1], torch.zeros(5).double())


@pytest.mark.parametrize("intercept", [True, False])
def test_coefficients_from_an_origin_give_the_same_outputs(intercept: bool) -> None:
    x, coefficients = inputs(20, 2), inputs(3, 2 + intercept, seed=1)
    x_origin = torch.tensor([5.0, -3.0]).double() if intercept else torch.zeros(2).double()
    y_origin = inputs(1, 3, seed=2)[0] if intercept else torch.zeros(3).double()
    origin = Origin(x_origin, y_origin, intercept)
    centred, raw = (with_intercept(z) if intercept else z for z in (x - x_origin, x))
    moved = coefficients @ origin.shift.mT + origin.offset
    torch.testing.assert_close(raw @ moved.mT, centred @ coefficients.mT + y_origin)
    torch.testing.assert_close(origin.shift @ origin.back, torch.eye(2 + intercept).double())


def test_columns_from_an_origin_that_float32_cannot_hold_have_one_rounding_error() -> None:
    origin = torch.tensor([1.0 + 1e-9, 1e4 / 3]).double()
    values = (origin + 1e-3 * inputs(100, 2)).float()
    exact = (values.double() - origin).mT
    columns = columns_from(values, origin)
    assert columns.dtype == torch.float32
    assert columns.is_contiguous()
    torch.testing.assert_close(columns.double(), exact, rtol=2e-7, atol=1e-12)


def test_columns_from_an_origin_have_a_gradient() -> None:
    values = inputs(5, 2).requires_grad_()
    columns_from(values, torch.zeros(2).double()).square().sum().backward()
    torch.testing.assert_close(values.grad, 2.0 * values.detach())


@pytest.mark.parametrize("ones", [True, False])
@pytest.mark.parametrize(
    "dtypes", [(torch.float32, torch.float32), (torch.float64,) * 2, (torch.float32, torch.float64)]
)
@pytest.mark.parametrize("follows", [True, False])
def test_joined_columns_are_those_of_each_part(ones: bool, dtypes: tuple[torch.dtype, ...], follows: bool) -> None:
    origins = torch.tensor([0.1, 3.0]).double(), torch.tensor([1e4 / 3]).double()
    parts = [(inputs(7, len(o), seed=i).to(d), o) for i, (d, o) in enumerate(zip(dtypes, origins, strict=True))]
    parts[0][0].requires_grad_(follows)
    wanted = torch.cat([parts[0][0].new_ones(int(ones), 7), *(columns_from(*part) for part in parts)])
    found = joined_columns(*parts, ones=ones)
    assert found.equal(wanted)
    assert (found.dtype, found.requires_grad) == (dtypes[1], follows)
    assert joined_columns((parts[0][0][:, :0], origins[0][:0]), ones=ones).shape == (int(ones), 7)
