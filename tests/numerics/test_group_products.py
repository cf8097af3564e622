"""Sums over groups, and matrices of each group with groups as the last axis."""

import torch

from mixpyro.numerics.group_products import (
    factors,
    log_determinant,
    matrices_of_groups,
    paired,
    products_of_groups,
    solved,
    solved_back,
    unpaired,
)
from mixpyro.numerics.segments import Segments


def test_products_are_those_of_the_rows_of_each_group() -> None:
    columns, sizes = torch.randn(3, 12).double(), torch.tensor([1, 4, 7])
    found = matrices_of_groups(products_of_groups(columns, Segments(sizes)), 3)
    for group, rows in enumerate(columns.split(sizes.tolist(), dim=1)):
        torch.testing.assert_close(found[..., group], rows @ rows.mT)


def test_a_trace_is_the_sum_over_pairs() -> None:
    one, other = (a @ a.mT for a in torch.randn(2, 4, 4).double())
    first, second = torch.triu_indices(4, 4)
    pairs = other[first, second]
    torch.testing.assert_close(unpaired(pairs, 4), other)
    torch.testing.assert_close((paired(one) * pairs).sum(), (one @ other).trace())


def test_factors_and_solutions_are_those_of_linear_algebra() -> None:
    roots = torch.randn(5, 2, 3, 3).double()
    matrices = roots @ roots.mT + torch.eye(3).double()
    vectors = torch.randn(5, 2, 3, 4).double()
    factor = factors([[matrices[..., i, j].mT for j in range(i + 1)] for i in range(3)])
    torch.testing.assert_close(log_determinant(factor).mT, torch.logdet(matrices))
    rows = [vectors[..., i, :].permute(1, 2, 0) for i in range(3)]
    half = solved(factor, rows)
    whole = torch.stack(solved_back(factor, half)).permute(3, 1, 0, 2)
    torch.testing.assert_close(whole, torch.linalg.solve(matrices, vectors))


def test_a_matrix_that_is_not_positive_definite_has_no_factor() -> None:
    one = torch.ones(1).double()
    assert torch.isnan(factors([[one], [2 * one, one]])[1][1]).all()
