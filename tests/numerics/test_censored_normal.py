"""Normal outcomes between limits, against scipy."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from mixpyro.numerics.censored_normal import log_probability, moments

INFINITY = math.inf
LIMITS = [
    (-INFINITY, 0.3),
    (-INFINITY, -20.0),
    (0.3, INFINITY),
    (8.0, INFINITY),
    (-30.0, INFINITY),
    (-1.0, 2.0),
    (5.0, 6.0),
    (-6.0, -5.0),
    (1.0, 1.01),
    (-2.0, 50.0),
    (-INFINITY, INFINITY),
]


@pytest.mark.parametrize(("low", "high"), LIMITS)
def test_probabilities_and_moments_are_scipys(low: float, high: float) -> None:
    limits = torch.tensor([low], dtype=torch.float64), torch.tensor([high], dtype=torch.float64)
    truncated = stats.truncnorm(low, high)
    # By whichever tail keeps its digits.
    flipped = (low, high) if low + high < 0 or math.isinf(low) else (-high, -low)
    expected = np.log(stats.norm.cdf(flipped[1]) - stats.norm.cdf(flipped[0]))
    assert log_probability(*limits).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    found = moments(*limits)
    assert found.mean.item() == pytest.approx(truncated.mean(), abs=1e-8)
    assert 1.0 - found.lost_variance.item() == pytest.approx(truncated.var(), abs=1e-6)


@pytest.mark.parametrize("value", [-3.0, 0.0, 12.5])
def test_equal_limits_are_the_density(value: float) -> None:
    limit = torch.tensor([value], dtype=torch.float64)
    assert log_probability(limit, limit).item() == pytest.approx(stats.norm.logpdf(value))
    assert moments(limit, limit).mean.item() == value
    assert moments(limit, limit).lost_variance.item() == 1.0


@pytest.mark.parametrize("value", [-3.0, 0.0, 5.0])
def test_a_narrow_interval_is_one_on_both_sides_of_the_change_of_formula(value: float) -> None:
    """Log of width times mean density: the derivative of the cumulative distribution in steps of Simpson's rule."""
    for width in (9e-4, 1.1e-3, 1e-6):
        end = value + width
        low, high = torch.tensor([value], dtype=torch.float64), torch.tensor([end], dtype=torch.float64)
        at = stats.norm.pdf([value, 0.5 * (value + end), end])
        expected = math.log((end - value) * (at[0] + 4.0 * at[1] + at[2]) / 6.0)
        assert log_probability(low, high).item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(("low", "high"), [*LIMITS, (1.0, 1.0), (1.0, 1.0005), (-INFINITY, -300.0), (100.0, INFINITY)])
def test_derivatives_in_a_shift_are_the_moments_and_finite(low: float, high: float) -> None:
    """d log p / d shift = E z, and minus its derivative is the variance that the limits have taken."""
    shift = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    value = log_probability(low - shift, high - shift)
    (first,) = torch.autograd.grad(value.sum(), shift, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), shift) if first.requires_grad else (torch.zeros(1).double(),)
    found = moments(torch.tensor([low], dtype=torch.float64), torch.tensor([high], dtype=torch.float64))
    torch.testing.assert_close(first.detach(), found.mean, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(-second, found.lost_variance, rtol=1e-5, atol=1e-5)
