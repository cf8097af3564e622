"""Densities of groups of rows of any size, beside those in exact arithmetic."""

import mpmath  # type: ignore[import-untyped]
import pytest
import torch
from torch import Tensor

from mixpyro.numerics.group_densities import columns_of_groups, has_lost_digits, marginal_log_densities
from mixpyro.numerics.group_rows import densities_by_rows, predictive_log_densities
from mixpyro.numerics.segments import Segments

SIZES = torch.tensor([1, 3, 2])
PRECISION = torch.tensor([0.7, 3.0]).double()


def problem(scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows [4, 6] whose regressors are of a scale, coefficients [2, 3] and a root [2, 3, 4]."""
    design = torch.cat([torch.ones(1, 6).double(), scale * torch.randn(2, 6).double()])
    coefficients, root = torch.randn(2, 3).double(), torch.randn(2, 3, 4).double()
    return torch.cat([design, torch.randn(1, 6).double()]), coefficients, root


def exact(rows: Tensor, coefficients: Tensor, root: Tensor) -> Tensor:
    """Return the log densities in arithmetic of 1,200 digits."""
    found = torch.zeros(2, len(SIZES)).double()
    with mpmath.workdps(1200):
        for k in range(2):
            for group, own in enumerate(rows.split(SIZES.tolist(), 1)):
                u, y = mpmath.matrix(own[:-1].mT.tolist()), mpmath.matrix(own[-1].tolist())
                a, rest = u * mpmath.matrix(root[k].tolist()), y - u * mpmath.matrix(coefficients[k].tolist())
                whole = a * a.T + mpmath.eye(own.shape[1]) / mpmath.mpf(float(PRECISION[k]))
                square = (rest.T * mpmath.inverse(whole) * rest)[0]
                constant = own.shape[1] * mpmath.log(2 * mpmath.pi)
                found[k, group] = float(-0.5 * (constant + mpmath.log(mpmath.det(whole)) + square))
    return found


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3, 1e7, 1e20, 1e150, 1e250])
def test_densities_have_all_digits_at_any_scale(scale: float) -> None:
    rows, coefficients, root = problem(scale)
    expected, segments = exact(rows, coefficients, root), Segments(SIZES)
    by_rows = densities_by_rows(rows, SIZES, coefficients, PRECISION, root)
    torch.testing.assert_close(by_rows, expected, rtol=1e-11, atol=1e-11)
    columns = columns_of_groups(rows, torch.eye(3, 2).double(), segments)
    found = predictive_log_densities(rows, columns, segments, coefficients, PRECISION, root)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-7)


def test_groups_whose_sums_have_lost_digits_are_found() -> None:
    rows, coefficients, root = problem(1.0)
    rows[1, 2] = 1e7
    segments = Segments(SIZES)
    columns = columns_of_groups(rows, torch.eye(3, 2).double(), segments)
    far = has_lost_digits(columns, coefficients, PRECISION, root)
    assert far.tolist() == [False, True, False]
    error = (marginal_log_densities(columns, coefficients, PRECISION, root) - exact(rows, coefficients, root)).abs()
    assert float(error[:, ~far].max()) < 1e-8 and not float(error[:, far].max()) < 1e-8


def test_densities_of_far_groups_have_derivatives() -> None:
    rows, coefficients, root = problem(1e6)
    segments, row = Segments(SIZES), rows[-1].clone().requires_grad_()

    def density(y: Tensor) -> Tensor:
        own = torch.cat([rows[:-1], y.unsqueeze(0)])
        columns = columns_of_groups(own, torch.eye(3, 2).double(), segments)
        return predictive_log_densities(own, columns, segments, coefficients, PRECISION, root)

    assert torch.autograd.gradcheck(density, (row,))


def test_a_group_without_rows_has_a_density_of_one() -> None:
    rows, coefficients, root = problem(1.0)
    found = densities_by_rows(rows, torch.tensor([3, 0, 3]), coefficients, PRECISION, root)
    assert torch.equal(found[:, 1], torch.zeros(2).double())
