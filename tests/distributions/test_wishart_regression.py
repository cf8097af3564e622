"""Regression coefficients under a Wishart prior, compared with a normal distribution for each row."""

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from mixpyro.distributions.wishart_regression import RegressionCoefficients, packed, unpacked

SIZE = 4


def factor() -> Tensor:
    """A lower triangular L [4, 4], positive on the diagonal."""
    return torch.randn(SIZE, SIZE).double().tril(-1) + torch.diag(0.5 + torch.rand(SIZE).double())


def rows(root: Tensor, precision: Tensor) -> list[MultivariateNormal]:
    """The distribution of each row of the coefficients below the diagonal, from its definition."""
    scale = root @ root.mT
    return [
        MultivariateNormal(
            torch.linalg.solve(scale[:p, :p], scale[:p, p]), precision_matrix=precision[p] * scale[:p, :p]
        )
        for p in range(1, SIZE)
    ]


def test_the_log_density_is_that_of_normal_rows() -> None:
    root, precision = factor(), 0.5 + torch.rand(SIZE).double()
    value = torch.randn(5, SIZE * (SIZE - 1) // 2).double()
    matrix = unpacked(value, SIZE)
    expected = torch.stack([row.log_prob(matrix[:, p, :p]) for p, row in enumerate(rows(root, precision), start=1)])
    torch.testing.assert_close(RegressionCoefficients(root, precision).log_prob(value), expected.sum(0))


def test_draws_have_the_mean_and_covariance_of_normal_rows() -> None:
    root, precision = factor(), 0.5 + torch.rand(SIZE).double()
    distribution = RegressionCoefficients(root, precision)
    draws = unpacked(distribution.rsample((20_000,)), SIZE)
    mean = unpacked(distribution.mean, SIZE)
    for p, row in enumerate(rows(root, precision), start=1):
        torch.testing.assert_close(mean[p, :p], row.mean)
        error = row.variance.sqrt() / 20_000**0.5
        assert ((draws[:, p, :p].mean(0) - row.mean).abs() < 4.5 * error).all()
        covariance = torch.atleast_2d(draws[:, p, :p].mT.cov())
        size = row.variance.sqrt()
        assert ((covariance - row.covariance_matrix).abs() < 0.05 * size * size.unsqueeze(1)).all()


def test_draws_have_gradients() -> None:
    root, precision = factor().requires_grad_(), torch.ones(SIZE).double().requires_grad_()
    RegressionCoefficients(root, precision).rsample((3,)).sum().backward()
    assert root.grad is not None
    assert precision.grad is not None


@pytest.mark.parametrize("batch_shape", [(3,), (2, 3)])
def test_an_expanded_distribution_repeats_itself(batch_shape: tuple[int, ...]) -> None:
    one = RegressionCoefficients(factor(), torch.ones(SIZE).double())
    many, value = one.expand(batch_shape), one.rsample()
    assert many.batch_shape == batch_shape
    assert many.rsample((5,)).shape == (5, *batch_shape, SIZE * (SIZE - 1) // 2)
    torch.testing.assert_close(many.log_prob(value), one.log_prob(value).expand(batch_shape))


def test_packed_entries_are_those_below_the_diagonal() -> None:
    matrix = torch.arange(9.0).reshape(3, 3)
    assert packed(matrix).tolist() == [3.0, 6.0, 7.0]
    assert torch.equal(unpacked(packed(matrix), 3), matrix.tril(-1))
