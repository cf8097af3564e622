"""PSIS-LOO against exact leave-one-out and ArviZ's own."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mixpyro import DirichletGate, GLMExperts, LinearExperts, MixtureOfExperts, SoftmaxGate, fit, to_arviz
from mixpyro.diagnostics import as_arviz, exact_loo, loo
from mixpyro.diagnostics.arviz_versions import arviz, container, group, has_data_trees
from mixpyro.diagnostics.psis_loo import leave_one_out
from mixpyro.experts.families import Gaussian
from tests.diagnostics.fits import fitted, two_lines
from tests.problems import lines

S, N = 2000, 12


def normal_means() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return y [N] with unit noise, draws of the exact posterior of their mean, and log p(y | mean) [N, S]."""
    rng = np.random.default_rng(1)
    y = rng.normal(size=N)
    draws = y.mean() + rng.normal(size=S) / N**0.5
    return y, draws, -0.5 * (y[:, None] - draws) ** 2 - 0.5 * np.log(2 * np.pi)


def test_leave_one_out_of_normal_means_is_exact() -> None:
    """Without row i the mean is Normal(mean of the others, 1 / (N − 1)), so the predictive density is known."""
    y, _, log_likelihood = normal_means()
    others = (y.sum() - y) / (N - 1)
    variance = 1.0 + 1.0 / (N - 1)
    exact = -0.5 * (y - others) ** 2 / variance - 0.5 * np.log(2 * np.pi * variance)
    found = leave_one_out(log_likelihood, np.zeros(S))
    np.testing.assert_allclose(found.pointwise, exact, atol=0.03)
    assert found.elpd == pytest.approx(exact.sum(), abs=0.1)
    assert found.n_untrusted == 0


def test_leave_one_out_corrects_draws_that_are_too_wide() -> None:
    y, _, _ = normal_means()
    posterior = np.random.default_rng(2).normal(size=S) / N**0.5
    draws = y.mean() + 1.5 * posterior
    log_likelihood = -0.5 * (y[:, None] - draws) ** 2 - 0.5 * np.log(2 * np.pi)
    log_ratios = log_likelihood.sum(0) + 0.5 * N * posterior**2
    corrected, uncorrected = leave_one_out(log_likelihood, log_ratios), leave_one_out(log_likelihood, np.zeros(S))
    exact = leave_one_out(normal_means()[2], np.zeros(S))
    assert abs(corrected.elpd - exact.elpd) < 0.1 < abs(uncorrected.elpd - exact.elpd)


def test_leave_one_out_equals_that_of_arviz() -> None:
    """``loo_approximate_posterior`` in 1.x; ``loo`` in 0.23, which has no correction."""
    _, draws, log_likelihood = normal_means()
    values = ("chain", "draw", "object"), log_likelihood.T[None]
    data = container({"posterior": {"mean": (("chain", "draw"), draws[None])}, "log_likelihood": {"y": values}}, {}, {})
    if has_data_trees():
        log_p = 0.3 * draws**2
        found = leave_one_out(log_likelihood, log_p)
        theirs = arviz().loo_approximate_posterior(data, log_p=log_p, log_q=0 * log_p, pointwise=True)
        expected, pointwise = (theirs.elpd, theirs.p), theirs.elpd_i
    else:
        found = leave_one_out(log_likelihood, np.zeros(S))
        theirs = arviz().loo(data, pointwise=True)
        expected, pointwise = (theirs.elpd_loo, theirs.p_loo), theirs.loo_i
    np.testing.assert_allclose((found.elpd, found.n_effective), expected, rtol=1e-6)
    np.testing.assert_allclose(found.pointwise, pointwise.values, rtol=1e-6)
    np.testing.assert_allclose(found.pareto_k, theirs.pareto_k.values, rtol=1e-6)


def test_arviz_prints_the_converted_result() -> None:
    printed = str(as_arviz(leave_one_out(normal_means()[2], np.zeros(S))))
    assert f"{S} posterior samples and {N} observations" in printed
    assert "Pareto k diagnostic values" in printed


def test_leave_one_out_of_an_exact_posterior_equals_refits() -> None:
    """With one component the posterior is exact, so nothing has to be corrected."""
    result, x, y = fitted("dirichlet", 1)
    found, exact = loo(to_arviz(result, x, y, n_draws=4000)), exact_loo(result, x, y, progress=False)
    assert found.elpd == pytest.approx(exact.elpd, abs=0.1)
    assert found.n_effective == pytest.approx(exact.n_effective, abs=0.1)


def test_leave_one_out_on_co2_equals_refits(co2: tuple[Tensor, Tensor]) -> None:
    x, y = co2
    result = two_lines(x, y, precision=1.0, rate=1.0)
    found, exact = loo(to_arviz(result, x, y, n_draws=2000)), exact_loo(result, x, y, progress=False)
    assert found.elpd == pytest.approx(exact.elpd, abs=0.5)
    assert exact.n_untrusted == 0
    assert "k-hat above 0.70 for 0 of 28 objects" in str(exact)


def test_draws_by_mcmc_are_not_corrected() -> None:
    """With one component the guide is exact, so correcting its draws changes nothing."""
    result, x, y = fitted("dirichlet", 1)
    data = to_arviz(result, x, y, n_draws=500)
    samples = {name: torch.as_tensor(values.values) for name, values in group(data, "posterior").items()}
    as_exact = to_arviz(result.mixture, x, y, samples=samples)
    assert loo(as_exact).elpd == pytest.approx(loo(data).elpd, abs=1e-8)


def test_data_without_draws_or_with_weights_are_refused() -> None:
    x, y, _ = lines(30, 1)
    estimated = MixtureOfExperts(SoftmaxGate(1, 1), GLMExperts(1, 1, Gaussian()))
    with pytest.raises(ValueError, match="`data` must have latent parameters to be drawn; got none"):
        loo(to_arviz(fit(estimated, x, y, n_restarts=1, progress=False), x, y, n_draws=3))
    mixture = MixtureOfExperts(DirichletGate(1), LinearExperts(1, 1))
    weighted = fit(mixture, x, y, weights=torch.ones(30).double(), n_restarts=1, progress=False)
    with pytest.raises(ValueError, match="`data` must have rows that count once; got weights"):
        loo(to_arviz(weighted, x, y, n_draws=3))
