"""Negative binomial log probabilities, against scipy and in the limit."""

import pytest
import torch
from scipy import stats

from mixpyro.distributions.negative_binomial import PreciseNegativeBinomial
from mixpyro.distributions.quantiles import cumulative
from mixpyro.numerics.count_densities import poisson_half_deviance, saturated_poisson
from mixpyro.numerics.overdispersed_counts import negative_binomial_half_deviance, saturated_beyond_poisson

COUNTS = torch.tensor([0.0, 1.0, 2.0, 7.0, 15.0, 16.0, 30.0, 260.0, 9000.0], dtype=torch.float64)


def log_prob(rate: float, dispersion: float) -> torch.Tensor:
    """Of all counts."""
    log_rate, alpha = (torch.tensor(value, dtype=torch.float64) for value in (rate, dispersion))
    deviance = negative_binomial_half_deviance(COUNTS, log_rate.log(), alpha)
    assert bool((deviance >= -1e-12).all())
    return saturated_poisson(COUNTS) + saturated_beyond_poisson(COUNTS, alpha) - deviance


@pytest.mark.parametrize("rate", [0.01, 3.0, 250.0])
@pytest.mark.parametrize("dispersion", [0.05, 0.5, 3.0, 100.0])
def test_probabilities_are_scipys(rate: float, dispersion: float) -> None:
    expected = stats.nbinom(1.0 / dispersion, 1.0 / (1.0 + dispersion * rate))
    theirs = torch.tensor(expected.logpmf(COUNTS.numpy()))
    torch.testing.assert_close(log_prob(rate, dispersion), theirs, rtol=1e-8, atol=1e-8)
    log_rate, alpha = (torch.tensor(value, dtype=torch.float64) for value in (rate, dispersion))
    distribution = PreciseNegativeBinomial(log_rate.log(), alpha)
    shares = stats.nbinom(1.0 / dispersion, 1.0 / (1.0 + dispersion * rate)).cdf(COUNTS.numpy())
    torch.testing.assert_close(cumulative(distribution, COUNTS), torch.tensor(shares), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("rate", [1e-3, 3.0, 1e4])
def test_a_dispersion_near_zero_is_poissons_to_first_order(rate: float) -> None:
    """log p = log Poisson + ½ α ((y − μ)² − y) + O(α²)."""
    alpha, log_rate = 1e-13, torch.tensor(rate, dtype=torch.float64).log()
    poisson = saturated_poisson(COUNTS) - poisson_half_deviance(COUNTS, log_rate)
    first_order = 0.5 * alpha * ((COUNTS - rate).square() - COUNTS)
    torch.testing.assert_close(log_prob(rate, alpha), poisson + first_order, rtol=1e-13, atol=1e-11)


@pytest.mark.parametrize("eta", [-800.0, 700.0, 1e6])
def test_extreme_predictors_leave_values_and_gradients_finite(eta: float) -> None:
    log_rate = torch.full_like(COUNTS, eta, requires_grad=True)
    alpha = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    value = negative_binomial_half_deviance(COUNTS, log_rate, alpha).sum()
    assert all(torch.isfinite(one).all() for one in (value, *torch.autograd.grad(value, (log_rate, alpha))))
