"""Both lines of ArviZ: what goes in, what comes out, and which way the signs are."""

from pathlib import Path

import numpy as np
import pytest

from mixpyro.diagnostics.arviz_versions import (
    ArvizData,
    arviz,
    as_arviz,
    container,
    datasets_of,
    from_netcdf,
    group,
    has_data_trees,
    leave_one_out,
    pareto_smoothed,
)

S, N = 2000, 12


def small() -> ArvizData:
    """Two groups, one axis with names."""
    values = np.arange(12.0).reshape(1, 6, 2)
    return container(
        {
            "posterior": {"gate.weights": (("chain", "draw", "component"), values)},
            "observed_data": {"y": (("object",), np.zeros(3))},
        },
        {"component": np.array(["left", "right"])},
        {"inference_library": "mixpyro"},
    )


def normal_ratios(scale: float) -> np.ndarray:
    """Log p − log q of draws from q = Normal(0, scale²) for p = Normal(0, 1)."""
    draws = scale * np.random.default_rng(0).normal(size=S)
    return -0.5 * draws**2 + 0.5 * (draws / scale) ** 2


def normal_means() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Data y [N] with unit noise, a flat prior on their mean, and draws of its exact posterior."""
    rng = np.random.default_rng(1)
    y = rng.normal(size=N)
    draws = y.mean() + rng.normal(size=S) / N**0.5
    return y, draws, -0.5 * (y[:, None] - draws) ** 2 - 0.5 * np.log(2 * np.pi)


def test_axes_have_names_and_coordinates() -> None:
    weights = small()["posterior"]["gate.weights"]
    assert weights.dims == ("chain", "draw", "component")
    assert weights.coords["component"].values.tolist() == ["left", "right"]
    assert weights.coords["draw"].values.tolist() == list(range(6))


def test_the_container_is_that_of_the_installed_line() -> None:
    assert type(small()).__name__ == ("DataTree" if has_data_trees() else "InferenceData")
    assert arviz().summary(small(), kind="stats").shape[0] == 2


def test_netcdf_round_trip(tmp_path: Path) -> None:
    before = small()
    before.to_netcdf(str(tmp_path / "draws.nc"))
    after = from_netcdf(tmp_path / "draws.nc")
    assert list(datasets_of(after)) == list(datasets_of(before))
    for name, dataset in datasets_of(before).items():
        assert dataset.identical(group(after, name))


def test_a_group_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="`data` must have a group 'log_likelihood'; got posterior, observed_data"):
        group(small(), "log_likelihood")


def test_a_narrow_proposal_has_a_large_k_and_a_wide_one_a_small_k() -> None:
    """The sign: the weights of a narrow proposal are unbounded, with tail index 1 − scale²."""
    assert pareto_smoothed(normal_ratios(0.3)).pareto_k > 0.7
    assert pareto_smoothed(normal_ratios(0.8)).pareto_k == pytest.approx(1 - 0.8**2, abs=0.15)
    assert pareto_smoothed(normal_ratios(1.5)).pareto_k < 0.3
    assert pareto_smoothed(-normal_ratios(0.3)).pareto_k < 0.0


def test_draws_of_the_target_itself_are_perfect() -> None:
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


def test_leave_one_out_is_the_exact_one_of_normal_means() -> None:
    """Without row i the mean is Normal(mean of the others, 1 / (N − 1)): the predictive density is known."""
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


def test_leave_one_out_is_that_of_arviz() -> None:
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


def test_arviz_prints_our_elpd_as_its_own() -> None:
    printed = str(as_arviz(leave_one_out(normal_means()[2], np.zeros(S))))
    assert f"{S} posterior samples and {N} observations" in printed
    assert "Pareto k diagnostic values" in printed
