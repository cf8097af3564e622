"""The smallest eigenvalue by products alone."""

import pytest
import torch
from torch import Tensor

from mixpyro.numerics.lanczos import smallest_eigenvalue
from tests.problems import inputs


def matrix(eigenvalues: Tensor) -> Tensor:
    """A symmetric matrix of given eigenvalues, with random eigenvectors."""
    vectors, _ = torch.linalg.qr(inputs(len(eigenvalues), len(eigenvalues)))
    return vectors @ torch.diag(eigenvalues) @ vectors.mT


@pytest.mark.parametrize("size", [1, 2, 7, 30])
def test_it_is_exact_after_as_many_products_as_rows(size: int) -> None:
    given = torch.linspace(-1.0, 3.0, size, dtype=torch.float64)
    found = smallest_eigenvalue(matrix(given).matmul, inputs(size, 1)[:, 0], n_products=size)
    torch.testing.assert_close(found, given[0], rtol=0, atol=1e-12)


def test_it_is_an_upper_limit_and_close_after_few_products() -> None:
    given = torch.cat([torch.tensor([1e-12]), torch.linspace(0.05, 1.0, 299)]).double()
    start = inputs(300, 1)[:, 0]
    limits = [float(smallest_eigenvalue(matrix(given).matmul, start, n_products=n)) for n in (5, 20, 60)]
    assert limits[0] > limits[1] > limits[2] > -1e-14
    assert limits[2] < 1e-10


@pytest.mark.parametrize("given", [torch.zeros(5), torch.ones(5), torch.tensor([1.0, 1.0, 1.0, 0.5, 0.5])])
def test_equal_eigenvalues_end_it_early(given: Tensor) -> None:
    found = smallest_eigenvalue(matrix(given.double()).matmul, inputs(5, 1)[:, 0], n_products=5)
    torch.testing.assert_close(found, given.double().min(), rtol=0, atol=1e-12)
