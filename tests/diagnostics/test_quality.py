"""k-hat, leave-one-out and comparisons, on real data and on problems with known answers."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from mixpyro import DirichletGate, FitResult, GLMExperts, LinearExperts, MixtureOfExperts, SoftmaxGate, fit, to_arviz
from mixpyro.diagnostics import compare_loo, exact_loo, khat, loo, loo_table, resample
from mixpyro.diagnostics.arviz_versions import ArvizData, Elpd, group
from mixpyro.diagnostics.quality import stacking_weights
from mixpyro.experts.families import Gaussian
from tests.diagnostics.fits import fitted
from tests.problems import lines


def two_lines(x: Tensor, y: Tensor, n_components: int = 2, *, precision: float = 0.01, rate: float = 0.01) -> FitResult:
    """Lines under Dirichlet(½) weights, as in tests/fitting/test_known_answers.py."""
    experts = LinearExperts(n_components, 1, coefficient_precision=precision, noise_rate=rate)
    return fit(
        MixtureOfExperts(DirichletGate(n_components, concentration=0.5), experts), x, y, n_restarts=8, progress=False
    )


def narrowed(mixture: MixtureOfExperts, factor: float) -> MixtureOfExperts:
    """The same posterior means, with variances that are ``factor`` times smaller."""
    narrow = copy.deepcopy(mixture)
    narrow.gate.posterior_concentration *= factor
    narrow.experts.centred_precision *= factor
    narrow.experts.posterior_shape *= factor
    narrow.experts.posterior_rate *= factor
    return narrow


def elpd_of(pointwise: list[float]) -> Elpd:
    """What leave-one-out would have found."""
    values = np.array(pointwise)
    return Elpd(float(values.sum()), 1.0, 1.0, values, np.zeros(len(values)), 1000)


def test_the_posterior_of_ethanol_is_to_be_trusted_and_a_narrow_one_is_not(ethanol: tuple[Tensor, Tensor]) -> None:
    x, y = ethanol
    result = two_lines(x, y)
    found = [khat(to_arviz(result, x, y, n_draws=2000, seed=seed)) for seed in range(3)]
    assert np.mean(found) < 0.7
    narrow = narrowed(result.mixture, 4.0)
    assert khat(to_arviz(narrow, x, y, n_draws=2000)) > 0.7


def test_an_exact_posterior_has_no_tail() -> None:
    result, x, y = fitted("dirichlet", 1)
    assert khat(to_arviz(result, x, y, n_draws=50)) == -np.inf


def test_leave_one_out_of_an_exact_posterior_is_that_of_refits() -> None:
    """One component: refits are exact, and nothing has to be corrected."""
    result, x, y = fitted("dirichlet", 1)
    found, exact = loo(to_arviz(result, x, y, n_draws=4000)), exact_loo(result, x, y, progress=False)
    assert found.elpd == pytest.approx(exact.elpd, abs=0.1)
    assert found.n_effective == pytest.approx(exact.n_effective, abs=0.1)


def test_leave_one_out_on_co2_is_that_of_refits(co2: tuple[Tensor, Tensor]) -> None:
    x, y = co2
    result = two_lines(x, y, precision=1.0, rate=1.0)
    found, exact = loo(to_arviz(result, x, y, n_draws=2000)), exact_loo(result, x, y, progress=False)
    assert found.elpd == pytest.approx(exact.elpd, abs=0.5)
    assert exact.n_untrusted == 0
    assert "k-hat above 0.70 for 0 of 28 objects" in str(exact)


def test_draws_by_mcmc_are_not_corrected() -> None:
    """The same draws, once as a guide's and once as if they were exact."""
    result, x, y = fitted("dirichlet", 1)
    data = to_arviz(result, x, y, n_draws=500)
    samples = {name: torch.as_tensor(values.values) for name, values in group(data, "posterior").items()}
    as_exact = to_arviz(result.mixture, x, y, samples=samples)
    # One component's guide is exact, so that both are right.
    assert loo(as_exact).elpd == pytest.approx(loo(data).elpd, abs=1e-8)
    with pytest.raises(ValueError, match="`data` must have draws from a guide, with `log_q`"):
        khat(as_exact)


def test_resampling_mends_what_is_too_wide() -> None:
    """One component, its guide made wide: the resampled draws have the spread of the exact ones."""
    result, x, y = fitted("dirichlet", 1)
    wide = narrowed(result.mixture, 0.5)
    data = to_arviz(wide, x, y, n_draws=8000)
    resampled = resample(data)

    def spread(one: ArvizData) -> np.ndarray:
        return one["posterior"]["experts.coefficients"].values.std((0, 1)).squeeze()

    exact = result.mixture.experts.coefficient_standard_deviations.squeeze().numpy()
    assert (spread(data) > 1.3 * exact).all()
    np.testing.assert_allclose(spread(resampled), exact, rtol=0.1)
    assert "log_q" not in group(resampled, "sample_stats")
    assert loo(resampled).elpd == pytest.approx(loo(data).elpd, abs=0.2)


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
    rows = compare_loo({"estimated": to_arviz(result, x, y, n_draws=50), "refits": exact})
    assert rows["estimated"].n_estimated == 2
    assert rows["refits"].n_estimated == 0
    assert rows["refits"].elpd < rows["estimated"].elpd


def test_stacking_finds_the_best_mixture() -> None:
    """Two models, each right about its own half of the objects: the weights are the halves."""
    right, wrong = np.log(0.9), np.log(0.1)
    table = np.array([(right, wrong), (right, wrong), (right, wrong), (wrong, right)])
    weights = stacking_weights(table)
    grid = np.linspace(0, 1, 10001)
    best = grid[np.log(np.exp(table) @ np.stack([grid, 1 - grid])).sum(0).argmax()]
    assert weights[0] == pytest.approx(best, abs=1e-3)
    np.testing.assert_allclose(stacking_weights(np.array([[0.0, -9.0], [0.0, -9.0]])), [1.0, 0.0], atol=1e-6)


def test_what_leave_one_out_cannot_do_is_refused() -> None:
    x, y, _ = lines(30, 1)
    estimated = MixtureOfExperts(SoftmaxGate(1, 1), GLMExperts(1, 1, Gaussian()))
    with pytest.raises(ValueError, match="`data` must have latent parameters to be drawn; got none"):
        loo(to_arviz(fit(estimated, x, y, n_restarts=1, progress=False), x, y, n_draws=3))
    mixture = MixtureOfExperts(DirichletGate(1), LinearExperts(1, 1))
    weighted = fit(mixture, x, y, weights=torch.ones(30).double(), n_restarts=1, progress=False)
    with pytest.raises(ValueError, match="`data` must have rows that count once; got weights"):
        loo(to_arviz(weighted, x, y, n_draws=3))
    with pytest.raises(ValueError, match="`result` must be of rows that count once; got weights"):
        exact_loo(weighted, x, y)
    with pytest.raises(ValueError, match="`x` must be what was fitted, 30 rows; got 7"):
        exact_loo(weighted, x[:7], y[:7])
    with pytest.raises(ValueError, match=r"`models` must be of the same objects; got \{'a': 2, 'b': 3\}"):
        compare_loo({"a": elpd_of([0.0, 0.0]), "b": elpd_of([0.0, 0.0, 0.0])})
    with pytest.raises(ValueError, match="`models` must hold at least one model"):
        compare_loo({})
