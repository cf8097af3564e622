"""The flattest direction of a log likelihood, against the eigenvalues of its whole information."""

import pytest
import torch
from torch import Tensor

from mixpyro.numerics.least_information import flattest_direction, smallest_eigenpair
from mixpyro.numerics.linear_predictors import LinearPredictors
from mixpyro.numerics.newton import MOST_DENSE, maximised
from mixpyro.numerics.soft_labels import SoftLabels
from tests.problems import inputs, responsibilities


def fitted(x: Tensor, labels: Tensor) -> tuple[LinearPredictors, Tensor]:
    """A multinomial logistic regression, and its coefficients [1, Q] at the maximum."""
    functions = LinearPredictors(x, SoftLabels(labels), n_predictors=labels.shape[1] - 1)
    start = functions.columns.new_zeros(1, functions.n_predictors * functions.columns.shape[1])
    return functions, maximised(functions, start, n_steps=25)


def least_information(functions: LinearPredictors, coefficients: Tensor) -> float:
    """The information along the flattest direction, relative to that of rows of curvature ¼."""
    weights = torch.ones(len(functions.columns), 1).double()
    return flattest_direction(functions, coefficients, curvature=0.25, weights=weights).relative


def relative_eigenvalue(functions: LinearPredictors, coefficients: Tensor) -> float:
    """The smallest eigenvalue of the information, relative to that of rows of curvature ¼, by a dense solver."""
    information = functions.expansion(coefficients).information()[0]
    root = torch.linalg.cholesky(functions.columns.mT @ functions.columns / 4.0)
    roots = torch.block_diag(*[root] * functions.n_predictors)
    left = torch.linalg.solve_triangular(roots, information, upper=False)
    return float(torch.linalg.eigvalsh(torch.linalg.solve_triangular(roots, left.mT, upper=False))[0])


@pytest.mark.parametrize(("n_features", "n_classes"), [(2, 3), (20, 6), (50, 6)])
def test_it_is_the_smallest_eigenvalue(n_features: int, n_classes: int) -> None:
    functions, coefficients = fitted(inputs(400, n_features), responsibilities(400, n_classes))
    found = least_information(functions, coefficients)
    assert found == pytest.approx(relative_eigenvalue(functions, coefficients), rel=1e-3)


def test_it_is_one_at_the_start_of_a_regression_on_two_classes() -> None:
    functions, coefficients = fitted(inputs(40, 2), responsibilities(40, 2))
    assert least_information(functions, 0.0 * coefficients) == pytest.approx(1.0)


@pytest.mark.parametrize(("n_features", "n_classes"), [(3, 3), (50, 6)])
def test_one_class_that_is_separated_is_found(n_features: int, n_classes: int) -> None:
    """The others overlap: of many directions few are flat."""
    x, labels = inputs(600, n_features), responsibilities(600, n_classes)
    inside = (x[:, 0] > 1.5).unsqueeze(-1)
    labels = torch.where(inside, torch.eye(n_classes)[-1].double(), labels)
    labels[:, -1:] *= inside
    functions, coefficients = fitted(x, labels)
    assert (coefficients.shape[1] > MOST_DENSE) == (n_features == 50)
    assert least_information(functions, coefficients) < 1e-9


def test_directions_in_which_no_column_varies_do_not_count() -> None:
    x = inputs(100, 2)
    functions, coefficients = fitted(torch.cat([x, x.sum(1, keepdim=True)], 1), responsibilities(100, 3))
    other, other_coefficients = fitted(x, responsibilities(100, 3))
    found = least_information(functions, coefficients)
    assert found == pytest.approx(least_information(other, other_coefficients), rel=1e-4)


def matrix(eigenvalues: Tensor) -> Tensor:
    """A symmetric matrix of given eigenvalues, with random eigenvectors."""
    vectors, _ = torch.linalg.qr(inputs(len(eigenvalues), len(eigenvalues)))
    return vectors @ torch.diag(eigenvalues) @ vectors.mT


@pytest.mark.parametrize("size", [1, 2, 7, 30])
def test_it_is_exact_after_as_many_products_as_rows(size: int) -> None:
    given = torch.linspace(-1.0, 3.0, size, dtype=torch.float64)
    found, vector = smallest_eigenpair(matrix(given).matmul, inputs(size, 1)[:, 0], n_products=size)
    torch.testing.assert_close(found, given[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(matrix(given) @ vector, given[0] * vector, rtol=0, atol=1e-9)
    assert vector.norm() == pytest.approx(1.0)


def test_it_is_an_upper_limit_and_close_after_few_products() -> None:
    given = torch.cat([torch.tensor([1e-12]), torch.linspace(0.05, 1.0, 299)]).double()
    start = inputs(300, 1)[:, 0]
    limits = [float(smallest_eigenpair(matrix(given).matmul, start, n_products=n)[0]) for n in (5, 20, 60)]
    assert limits[0] > limits[1] > limits[2] > -1e-14
    assert limits[2] < 1e-10


@pytest.mark.parametrize("given", [torch.zeros(5), torch.ones(5), torch.tensor([1.0, 1.0, 1.0, 0.5, 0.5])])
def test_equal_eigenvalues_end_it_early(given: Tensor) -> None:
    found, _ = smallest_eigenpair(matrix(given.double()).matmul, inputs(5, 1)[:, 0], n_products=5)
    torch.testing.assert_close(found, given.double().min(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("far", [1e160, 1e300])
def test_columns_whose_moments_overflow_have_no_flat_direction(far: float) -> None:
    x = inputs(12, 2)
    x[0, 0] = far
    functions = LinearPredictors(x, SoftLabels(responsibilities(12, 2)), n_predictors=1)
    zero = functions.columns.new_zeros(1, functions.columns.shape[1])
    weights = torch.ones(12, 1).double()
    assert not flattest_direction(functions, zero, curvature=0.25, weights=weights).is_unbounded
