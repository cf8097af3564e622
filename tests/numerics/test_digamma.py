"""The digamma function of many numbers, compared with PyTorch's in float64."""

import pytest
import torch

from mixpyro.numerics.digamma import digamma

# Enough numbers for the vector operations.
MANY = 10_000


def test_many_float32_numbers_agree_with_float64_to_rounding() -> None:
    """Over eleven decades. The error of PyTorch's own float32 is 9e-7 of max(1, |ψ|) here."""
    x = torch.logspace(-3, 8, 1_000_001, dtype=torch.float64).float()
    expected = torch.digamma(x.double())
    error = ((digamma(x).double() - expected).abs() / expected.abs().clamp_min(1.0)).max()
    assert error < 6e-7, f"relative error {error:.2e}"


@pytest.mark.parametrize("value", [1e-30, 1e-10, 1.4616321, 1e12, 3e38])
def test_values_near_the_ends_of_float32(value: float) -> None:
    x = torch.full((MANY,), value)
    torch.testing.assert_close(digamma(x).double(), torch.digamma(x.double()), rtol=3e-7, atol=3e-7)


@pytest.mark.parametrize("value", [0.0, -0.5, -1.0, float("inf"), float("nan")])
def test_numbers_that_are_not_positive_and_finite_are_computed_by_pytorch(value: float) -> None:
    x = torch.rand(MANY) + 0.1
    x[5] = value
    torch.testing.assert_close(digamma(x), torch.digamma(x), rtol=0, atol=0, equal_nan=True)


def test_float64_and_few_numbers_are_computed_by_pytorch() -> None:
    for x in (torch.rand(MANY, dtype=torch.float64), torch.rand(100)):
        assert torch.equal(digamma(x), torch.digamma(x))


def test_the_gradient_is_that_of_pytorch() -> None:
    x = (torch.rand(MANY) + 0.1).requires_grad_()
    digamma(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.polygamma(1, x.detach()))
