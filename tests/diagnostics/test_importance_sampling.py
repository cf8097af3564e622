"""Pareto smoothed weights, k-hat and resampling, on real data and on problems with known answers."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mixpyro import to_arviz
from mixpyro.diagnostics import khat, loo, resample
from mixpyro.diagnostics.arviz_versions import ArvizData, group
from mixpyro.diagnostics.importance_sampling import pareto_smoothed
from tests.diagnostics.fits import fitted, narrowed, two_lines

S = 2000


def normal_ratios(scale: float) -> np.ndarray:
    """Return log p − log q of draws from q = Normal(0, scale²) for p = Normal(0, 1)."""
    draws = scale * np.random.default_rng(0).normal(size=S)
    return -0.5 * draws**2 + 0.5 * (draws / scale) ** 2


def test_a_narrow_proposal_has_a_large_k_and_a_wide_one_a_small_k() -> None:
    """The weights of a narrow proposal are unbounded, with tail index 1 − scale²."""
    assert pareto_smoothed(normal_ratios(0.3)).pareto_k > 0.7
    assert pareto_smoothed(normal_ratios(0.8)).pareto_k == pytest.approx(1 - 0.8**2, abs=0.15)
    assert pareto_smoothed(normal_ratios(1.5)).pareto_k < 0.3
    assert pareto_smoothed(-normal_ratios(0.3)).pareto_k < 0.0


def test_draws_of_the_target_have_equal_weights() -> None:
    rounding = 1e-12 * np.random.default_rng(0).normal(size=S)
    both = pareto_smoothed(np.stack([rounding, normal_ratios(0.8)]))
    assert both.pareto_k[0] == -np.inf
    np.testing.assert_allclose(both.log_weights[0], -np.log(S))
    np.testing.assert_allclose(both.log_weights[1], pareto_smoothed(normal_ratios(0.8)).log_weights)


def test_smoothed_weights_give_the_moments_of_the_target() -> None:
    draws = 1.5 * np.random.default_rng(0).normal(size=S)
    weights = np.exp(pareto_smoothed(normal_ratios(1.5)).log_weights)
    assert weights.sum() == pytest.approx(1.0)
    assert (weights * draws**2).sum() == pytest.approx(1.0, abs=0.1)


def test_khat_on_ethanol_is_small_and_that_of_a_narrow_guide_is_large(ethanol: tuple[Tensor, Tensor]) -> None:
    x, y = ethanol
    result = two_lines(x, y)
    found = [khat(to_arviz(result, x, y, n_draws=2000, seed=seed)) for seed in range(3)]
    assert np.mean(found) < 0.7
    assert khat(to_arviz(narrowed(result, x, y, 4.0), x, y, n_draws=2000)) > 0.7


def test_an_exact_posterior_has_no_tail() -> None:
    result, x, y = fitted("dirichlet", 1)
    assert khat(to_arviz(result, x, y, n_draws=50)) == -np.inf


def test_draws_by_mcmc_have_no_khat() -> None:
    result, x, y = fitted("dirichlet", 1)
    data = to_arviz(result, x, y, n_draws=500, intervals="mean field")
    samples = {name: torch.as_tensor(values.values) for name, values in group(data, "posterior").items()}
    with pytest.raises(ValueError, match="`data` must have draws from a guide, with `log_q`"):
        khat(to_arviz(result.mixture, x, y, samples=samples))


def test_resampling_corrects_a_guide_that_is_too_wide() -> None:
    """With one component and half the counts, the resampled draws have the spread of the exact posterior."""
    result, x, y = fitted("dirichlet", 1)
    data = to_arviz(narrowed(result, x, y, 0.5), x, y, n_draws=8000)
    resampled = resample(data)

    def spread(one: ArvizData) -> np.ndarray:
        return one["posterior"]["experts.coefficients"].values.std((0, 1)).squeeze()

    exact = result.mixture.experts.coefficient_standard_deviations.squeeze().numpy()
    assert (spread(data) > 1.3 * exact).all()
    np.testing.assert_allclose(spread(resampled), exact, rtol=0.1)
    assert "log_q" not in group(resampled, "sample_stats")
    assert loo(resampled).elpd == pytest.approx(loo(data).elpd, abs=0.2)
