"""Log probabilities of counts, against the plain formula in 60 digits."""

import math

import pytest
import torch
from mpmath import mp, mpf  # type: ignore[import-untyped]
from torch import Tensor

from mixpyro.numerics.count_densities import (
    binomial_half_deviance,
    poisson_half_deviance,
    saturated_binomial,
    saturated_poisson,
)

COUNTS = [0.0, 1.0, 2.0, 15.0, 16.0, 17.0, 100.0, 12345.0, 1e6, 1e8, 1e12, 1e15]
SHARES = [0.0, 1e-9, 0.2, 0.5, 0.9, 1.0]
TRIALS = [1.0, 2.0, 10.0, 1e3, 1e6, 1e8, 1e12]


def scalar(value: float) -> Tensor:
    """A float64 scalar that derivatives are taken in."""
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def derivatives(value: Tensor, variable: Tensor) -> tuple[float, float]:
    """First and second derivatives by autograd."""
    (first,) = torch.autograd.grad(value, variable, create_graph=True)
    (second,) = torch.autograd.grad(first, variable)
    return first.item(), second.item()


def log_rates(count: float) -> list[float]:
    """Logarithms of rates at the count, a few standard deviations beside it, and far away."""
    size = max(count, 0.5)
    near = [math.log(size + step * math.sqrt(size)) for step in (0.0, 1.0, 3.0)]
    return [*near, math.log(size) - 50.0, math.log(size) - 3.0, math.log(size) + 2.0, -30.0]


@pytest.mark.parametrize("count", COUNTS)
def test_poisson_log_probabilities_and_their_derivatives(count: float) -> None:
    mp.dps = 60
    for log_rate in log_rates(count):
        eta = scalar(log_rate)
        y = torch.tensor(count, dtype=torch.float64)
        ours = saturated_poisson(y) - poisson_half_deviance(y, eta)
        rate = mp.e ** mpf(log_rate)
        exact = mpf(count) * mpf(log_rate) - rate - mp.loggamma(mpf(count) + 1)
        assert ours.item() == pytest.approx(float(exact), rel=1e-7, abs=0.0)
        first, second = derivatives(ours, eta)
        assert first == pytest.approx(float(mpf(count) - rate), rel=1e-6, abs=1e-6 * math.sqrt(count) + 1e-30)
        assert second == pytest.approx(-float(rate), rel=1e-6, abs=1e-15 * count)


@pytest.mark.parametrize("trials", TRIALS)
@pytest.mark.parametrize("share", SHARES)
def test_binomial_log_probabilities_and_their_derivatives(trials: float, share: float) -> None:
    mp.dps = 60
    count = math.floor(share * trials)
    for logit in (0.0, -30.0, 30.0, -3.0, 2.0, math.log((count + 0.5) / (trials - count + 0.5))):
        eta = scalar(logit)
        y, n = (torch.tensor(value, dtype=torch.float64) for value in (float(count), trials))
        ours = saturated_binomial(y, n) - binomial_half_deviance(y, n, eta)
        coefficient = mp.loggamma(mpf(trials) + 1) - mp.loggamma(mpf(count) + 1) - mp.loggamma(mpf(trials) - count + 1)
        exact = count * mpf(logit) - trials * mp.log(1 + mp.e ** mpf(logit)) + coefficient
        assert ours.item() == pytest.approx(float(exact), rel=1e-8, abs=0.0)
        p = 1 / (1 + mp.e ** -mpf(logit))
        deviation = float(mp.sqrt(trials * p * (1 - p)))
        first, second = derivatives(ours, eta)
        assert first == pytest.approx(float(count - trials * p), rel=1e-6, abs=1e-6 * deviation)
        # A rounding error of a float64 is left of the trials where p is one to rounding.
        assert second == pytest.approx(-(deviation**2), rel=1e-6, abs=1e-15 * trials)


@pytest.mark.parametrize("log_rate", [800.0, 1e5, torch.inf])
@pytest.mark.parametrize("count", [0.0, 3.0, 1e8])
def test_an_impossible_count_leaves_no_derivative_without_a_number(count: float, log_rate: float) -> None:
    """Responsibilities of zero times its derivatives are zero."""
    eta = scalar(log_rate)
    ours = -poisson_half_deviance(torch.tensor(count, dtype=torch.float64), eta)
    assert -math.inf < ours.item() < -1e260
    evidence = torch.logsumexp(torch.stack([ours, torch.zeros_like(ours)]), 0)
    assert derivatives(evidence, eta) == (0.0, 0.0)
