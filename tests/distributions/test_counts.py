"""Poisson and binomial distributions, compared with scipy's and, where those lose digits, with their limits."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from mixpyro.distributions.counts import PreciseBinomial, PrecisePoisson
from mixpyro.distributions.mixture_quantiles import mixture_quantiles
from mixpyro.distributions.quantiles import cumulative

DTYPES = [torch.float32, torch.float64]
RATES = [0.0, 0.3, 10.0, 1e6, 0.9e9, 1.1e9, 1e15, 1e19, 1e30, 1e300]
N_DRAWS = 4000


def float64(*values: float) -> Tensor:
    """A float64 tensor."""
    return torch.tensor(values, dtype=torch.float64)


def assert_moments(draws: Tensor, mean: float, deviation: float) -> None:
    """Mean and variance are within five of their sampling errors, whatever their size."""
    standard = (draws.double() - mean) / max(deviation, 1e-300)
    # Rounding errors of the draws, in standard deviations.
    rounding = 4.0 * torch.finfo(draws.dtype).eps * mean / max(deviation, 1e-300)
    assert abs(float(standard.mean())) < 5.0 / math.sqrt(len(draws)) + rounding
    if rounding < 1e-3 and mean > 5.0:
        assert float(standard.square().mean()) == pytest.approx(1.0, abs=7.0 * math.sqrt(2.0 / len(draws)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", RATES)
def test_poisson_draws_are_counts_about_the_rate(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    poisson = PrecisePoisson(float64(rate).log(), dtype=dtype)
    draws = poisson.sample((N_DRAWS,))[:, 0]
    assert draws.dtype == poisson.mean.dtype == dtype
    assert bool((draws >= 0).all())
    if rate > torch.finfo(dtype).max:
        assert bool((draws == torch.inf).all())
        return
    assert torch.equal(draws, draws.round())
    assert_moments(draws, float(poisson.rate), math.sqrt(rate))


def test_an_infinite_rate_draws_infinity_and_no_number_none() -> None:
    poisson = PrecisePoisson(float64(torch.inf, torch.nan, 1.0), validate_args=False)
    draws = poisson.sample((10,))
    assert bool((draws[:, 0] == torch.inf).all() and draws[:, 1].isnan().all() and draws[:, 2].isfinite().all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("trials", "logit"),
    [(1.0, 0.3), (10.0, 0.0), (1e6, -3.0), (1e12, 2.0), (1e12, -25.0), (1e18, -38.0), (1e18, 0.3), (1e30, -60.0)],
)
def test_binomial_draws_are_counts_about_the_mean(trials: float, logit: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    binomial = PreciseBinomial(float64(trials), float64(logit), dtype=dtype)
    draws = binomial.sample((N_DRAWS,))[:, 0]
    assert draws.dtype == binomial.mean.dtype == dtype
    assert bool((draws >= 0).all() and (draws <= float64(trials).to(dtype)).all())
    assert torch.equal(draws, draws.round())
    p, q = 1.0 / (1.0 + math.exp(-logit)), 1.0 / (1.0 + math.exp(logit))
    assert_moments(draws, trials * p, math.sqrt(trials * p) * math.sqrt(q))


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_probabilities_are_scipys(dtype: torch.dtype) -> None:
    y = float64(0.0, 1.0, 30.0, 12345.0, 1e6)
    log_rate = (y + 0.7).log() + 0.001
    ours = PrecisePoisson(log_rate, dtype=dtype).log_prob(y.to(dtype))
    exact = torch.as_tensor(stats.poisson(log_rate.exp()).logpmf(y))
    torch.testing.assert_close(ours, exact.to(dtype), rtol=1e-6, atol=0.0)
    trials, logit = 2.0 * y + 3.0, float64(-1.0, 0.0, 0.1, 0.01, 0.001)
    ours = PreciseBinomial(trials, logit, dtype=dtype).log_prob(y.to(dtype))
    exact = torch.as_tensor(stats.binom(trials, logit.sigmoid()).logpmf(y))
    torch.testing.assert_close(ours, exact.to(dtype), rtol=1e-6, atol=0.0)


def test_expanded_distributions_share_their_parameters() -> None:
    poisson = PrecisePoisson(float64(1.0, 3.0)).expand((4, 2))
    binomial = PreciseBinomial(float64(9.0, 7.0), float64(1.0, -1.0)).expand((4, 2))
    for distribution in (poisson, binomial):
        assert distribution.batch_shape == distribution.sample().shape == distribution.mean.shape == (4, 2)
        torch.testing.assert_close(distribution.log_prob(float64(2.0)), distribution.log_prob(2.0 * torch.ones(4, 2)))
    variance = torch.as_tensor(stats.binom([9, 7], float64(1.0, -1.0).sigmoid().numpy()).var())
    torch.testing.assert_close(binomial.variance[0], variance)


@pytest.mark.parametrize("rate", [0.99e8, 1.01e8])
def test_cumulative_functions_agree_on_both_sides_of_the_limit(rate: float) -> None:
    y = rate + float64(-3.0, -1.0, 0.0, 1.0, 3.0) * math.sqrt(rate)
    ours = cumulative(PrecisePoisson(float64(rate).log()), y)
    torch.testing.assert_close(ours, torch.as_tensor(stats.poisson(rate).cdf(y)), rtol=0, atol=1e-7)
    ours = cumulative(PreciseBinomial(float64(4.0 * rate), float64(0.0)), 2.0 * rate + y - rate)
    exact = stats.binom(4.0 * rate, 0.5).cdf(2.0 * rate + y - rate)
    torch.testing.assert_close(ours, torch.as_tensor(exact), rtol=0, atol=1e-7)


@pytest.mark.parametrize("rate", [1e9, 1e18, 1e40, 1e300])
def test_quantiles_of_large_counts_are_those_of_the_normal_limit(rate: float) -> None:
    probabilities = float64(0.01, 0.5, 0.99)
    poisson = PrecisePoisson(float64(rate).log().reshape(1, 1, 1)).to_event(1)  # type: ignore[no-untyped-call]
    ours = mixture_quantiles(torch.ones(1, 1).double(), poisson, probabilities).flatten()
    exact = poisson.base_dist.rate.flatten() + math.sqrt(rate) * torch.as_tensor(stats.norm.ppf(probabilities))
    torch.testing.assert_close(ours, exact, rtol=1e-15, atol=1e-3 * math.sqrt(rate))


def test_a_quantile_is_infinite_where_an_infinite_component_has_the_weight() -> None:
    poisson = PrecisePoisson(float64(1.0, torch.inf).reshape(1, 2, 1), validate_args=False).to_event(1)  # type: ignore[no-untyped-call]
    weights = float64(0.7, 0.3).unsqueeze(0)
    ours = mixture_quantiles(weights, poisson, float64(0.5, 0.8)).flatten()
    assert float(ours[0]) == stats.poisson(math.e).ppf(0.5 / 0.7)
    assert float(ours[1]) == torch.inf
