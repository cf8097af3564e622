"""PSIS-LOO against exact leave-one-out and ArviZ's own."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mixpyro import DirichletGate, GLMExperts, LinearExperts, MixtureOfExperts, SoftmaxGate, fit, to_arviz
from mixpyro.diagnostics import Elpd, as_arviz, compare_loo, exact_loo, loo, loo_table
from mixpyro.diagnostics.arviz_versions import arviz, container, group, has_data_trees
from mixpyro.diagnostics.loo_comparison import stacking_weights
from mixpyro.diagnostics.psis_loo import leave_one_out
from mixpyro.experts.families import Gaussian
from tests.diagnostics.fits import fitted, two_lines
from tests.problems import lines

# Few rows in small components: that is not what these tests ask.
pytestmark = [
    pytest.mark.filterwarnings("ignore:the noise of component"),
    pytest.mark.usefixtures("without_type_checks"),
]

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
    data = to_arviz(result, x, y, n_draws=500, intervals="mean field")
    samples = {name: torch.as_tensor(values.values) for name, values in group(data, "posterior").items()}
    as_exact = to_arviz(result.mixture, x, y, samples=samples)
    assert loo(as_exact).elpd == pytest.approx(loo(data).elpd, abs=1e-8)


def test_data_without_draws_or_with_weights_are_refused() -> None:
    x, y, _ = lines(30, 1)
    estimated = MixtureOfExperts(SoftmaxGate(1, 1), GLMExperts(1, 1, Gaussian()))
    with pytest.raises(ValueError, match="`data` must have latent parameters to be drawn; got none"):
        loo(to_arviz(fit(estimated, x, y, n_restarts=1, progress=False), x, y, n_draws=3, intervals="mean field"))
    mixture = MixtureOfExperts(DirichletGate(1), LinearExperts(1, 1))
    weighted = fit(mixture, x, y, weights=torch.ones(30).double(), n_restarts=1, progress=False)
    with pytest.raises(ValueError, match="`data` must have rows that count once; got weights"):
        loo(to_arviz(weighted, x, y, n_draws=3, intervals="mean field"))


def elpd_of(pointwise: list[float]) -> Elpd:
    """Return a result of leave-one-out with these values."""
    values = np.array(pointwise)
    return Elpd(float(values.sum()), 1.0, 1.0, values, np.zeros(len(values)), 1000)


def test_the_better_number_of_components_comes_first(ethanol: tuple[Tensor, Tensor]) -> None:
    x, y = ethanol
    models = {f"K = {k}": to_arviz(two_lines(x, y, k), x, y, n_draws=500) for k in (1, 2)}
    rows = compare_loo(models)
    assert list(rows) == ["K = 2", "K = 1"]
    assert rows["K = 2"].difference == rows["K = 2"].difference_error == 0.0
    assert rows["K = 1"].difference < -5 * rows["K = 1"].difference_error
    assert rows["K = 2"].weight > 0.9
    first, second = loo(models["K = 2"]).pointwise, loo(models["K = 1"]).pointwise
    assert rows["K = 1"].difference == pytest.approx((second - first).sum())
    table = loo_table(rows).splitlines()
    assert len({len(line) for line in table}) == 1
    assert table[1].split()[:3] == ["K", "=", "2"]


def test_estimated_parameters_are_counted() -> None:
    _, x, y = fitted(n_objects=14)
    result = fit(MixtureOfExperts(SoftmaxGate(2, 1, prior_scale=1.0), LinearExperts(2, 1)), x, y, progress=False)
    exact = exact_loo(result, x, y, progress=False)
    rows = compare_loo({"estimated": to_arviz(result, x, y, n_draws=50, intervals="mean field"), "refits": exact})
    assert rows["estimated"].n_estimated == 2
    assert rows["refits"].n_estimated == 0
    assert rows["refits"].elpd < rows["estimated"].elpd


def test_stacking_weights_are_the_best_of_a_grid() -> None:
    """The first model is right about three objects of four, the second about the fourth."""
    right, wrong = np.log(0.9), np.log(0.1)
    table = np.array([(right, wrong), (right, wrong), (right, wrong), (wrong, right)])
    weights = stacking_weights(table)
    grid = np.linspace(0, 1, 10001)
    best = grid[np.log(np.exp(table) @ np.stack([grid, 1 - grid])).sum(0).argmax()]
    assert weights[0] == pytest.approx(best, abs=1e-3)
    np.testing.assert_allclose(stacking_weights(np.array([[0.0, -9.0], [0.0, -9.0]])), [1.0, 0.0], atol=1e-6)


def test_models_of_different_objects_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`models` must be of the same objects; got \{'a': 2, 'b': 3\}"):
        compare_loo({"a": elpd_of([0.0, 0.0]), "b": elpd_of([0.0, 0.0, 0.0])})
    with pytest.raises(ValueError, match="`models` must hold at least one model"):
        compare_loo({})
