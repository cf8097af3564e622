"""Conversion of fitted mixtures, gates and MCMC samples to ArviZ."""

from pathlib import Path

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import MCMC, NUTS
from torch import nn

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, NeuralGate, ObjectDirichletGate, fit, to_arviz
from mixpyro.diagnostics import ResponsibilityDraws
from mixpyro.diagnostics.arviz_versions import datasets_of, from_netcdf, group
from mixpyro.diagnostics.plots import plot_expert_lines, plot_gate_curve
from mixpyro.gates import Gate
from tests.diagnostics.fits import GATES, fitted
from tests.problems import inputs, lines, responsibilities

pandas = pytest.importorskip("pandas")


def test_groups_and_names_of_a_fitted_mixture() -> None:
    result, x, y = fitted("dirichlet", 3, n_outputs=2)
    data = to_arviz(result, x, y, n_draws=20, feature_names=["dose"], output_names=["left", "right"])
    assert set(datasets_of(data)) == {
        "posterior",
        "prior",
        "posterior_predictive",
        "log_likelihood_of_guide",
        "log_prior",
        "prior_predictive",
        "sample_stats",
        "observed_data",
        "constant_data",
    }
    coefficients = data["posterior"]["experts.coefficients"]
    assert coefficients.dims == ("chain", "draw", "component", "output", "regressor")
    assert coefficients.coords["regressor"].values.tolist() == ["intercept", "dose"]
    assert coefficients.coords["output"].values.tolist() == ["left", "right"]
    assert data["posterior"]["gate.weights"].sizes == {"chain": 1, "draw": 20, "component": 3}
    assert data["posterior_predictive"]["experts.y"].dims == ("chain", "draw", "object", "output")
    assert data["log_likelihood_of_guide"]["experts.y"].dims == ("chain", "draw", "object")
    np.testing.assert_array_equal(data["observed_data"]["experts.y"].values, y.numpy())
    np.testing.assert_array_equal(data["constant_data"]["x"].values, x.numpy())
    np.testing.assert_array_equal(data["constant_data"]["bound"].values[0], result.trace)


def test_a_data_frame_names_columns_and_rows() -> None:
    result, x, y = fitted()
    table = pandas.DataFrame({"dose": x[:, 0].numpy()}, index=[f"run {i}" for i in range(len(x))])
    data = to_arviz(result, table, pandas.DataFrame({"yield": y[:, 0].numpy()}), n_draws=5)
    same = to_arviz(result, x, y, n_draws=5)
    assert data["constant_data"]["x"].coords["feature"].values.tolist() == ["dose"]
    assert data["log_likelihood_of_guide"]["experts.y"].coords["object"].values[3] == "run 3"
    assert data["observed_data"]["experts.y"].attrs["long_name"] == "yield"
    np.testing.assert_array_equal(
        data["log_likelihood_of_guide"]["experts.y"].values, same["log_likelihood_of_guide"]["experts.y"].values
    )


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("name", GATES)
def test_the_bound_is_at_most_the_mean_of_lp_minus_log_q(name: str) -> None:
    """The bound is below E_q[log p(y, θ) − log q(θ)] by the KL divergence of the assignments."""
    result, x, y = fitted(name)
    data = to_arviz(result, x, y, n_draws=400)
    stats, likelihood = group(data, "sample_stats"), data["log_likelihood_of_guide"]["experts.y"].values
    ratio = (stats["lp"] - stats["log_q"]).values
    marginal = result.bound
    if name == "object":  # its bound has the KL divergence of the objects' weights, which are integrated out here
        marginal -= float(ratio.std())
    assert ratio.mean() > marginal - 4 * ratio.std() / 20
    assert np.exp(ratio - ratio.max()).mean() > 0.01
    assert likelihood.shape == (1, 400, len(x))


def test_with_one_component_lp_minus_log_q_is_the_bound_at_every_draw() -> None:
    """The posterior is exact then, so log p − log q is the log evidence."""
    result, x, y = fitted("dirichlet", 1)
    stats = group(to_arviz(result, x, y, n_draws=50), "sample_stats")
    np.testing.assert_allclose((stats["lp"] - stats["log_q"]).values, result.bound, atol=1e-9)


def test_row_weights_enter_lp_only() -> None:
    x, y, z = lines(12, 2)
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    weights = torch.arange(12).double()
    start = nn.functional.one_hot(z, 2).double() + 0.1
    result = fit(mixture, x, y, weights=weights, initial_responsibilities=start, progress=False)
    weighted, plain = (to_arviz(one, x, y, n_draws=9, intervals="mean field") for one in (result, mixture))
    likelihood = weighted["log_likelihood_of_guide"]["experts.y"].values
    np.testing.assert_allclose(likelihood, plain["log_likelihood_of_guide"]["experts.y"].values, rtol=1e-12)
    extra = (likelihood * (weights.numpy() - 1)).sum(-1)
    np.testing.assert_allclose(
        weighted["sample_stats"]["lp"].values, plain["sample_stats"]["lp"].values + extra, rtol=1e-10
    )
    np.testing.assert_array_equal(weighted["constant_data"]["weights"].values, weights.numpy())


def test_estimated_parameters_are_constants() -> None:
    x, y, _ = lines(40, 2)
    mixture = MixtureOfExperts(GATES["neural"](2), LinearExperts(2, 1))
    result = fit(mixture, x, y, gate_x=2.0 * x, n_restarts=1, progress=False)
    data = to_arviz(result, x, y, gate_x=2.0 * x, n_draws=5, intervals="mean field")
    assert set(group(data, "posterior")) == {"experts.precision", "experts.coefficients"}
    weight = result.mixture.gate.network.weight.detach().numpy()
    np.testing.assert_array_equal(data["constant_data"]["gate.network.weight"].values, weight)
    np.testing.assert_array_equal(data["constant_data"]["gate_x"].values, 2.0 * x.numpy())
    assert group(data, "posterior").attrs["n_estimated_parameters"] == 4


def test_rows_of_a_fit_are_the_fitted_objects_and_those_of_a_mixture_are_new() -> None:
    result, x, y = fitted("object")
    gate, permuted = result.mixture.gate, torch.arange(len(x)).flip(0)
    cases = (
        (to_arviz(result, x, y, n_draws=3000, weights_of_objects=True), gate.weights(x, objects=slice(None))),
        (to_arviz(result.mixture, x, y, n_draws=3000, weights_of_objects=True), gate.weights(x)),
        (
            to_arviz(result.mixture, x[permuted], y[permuted], objects=permuted, n_draws=3000, weights_of_objects=True),
            gate.weights(x, objects=permuted),
        ),
    )
    for data, mean in cases:
        np.testing.assert_allclose(data["posterior"]["gate.weights"].values[0].mean(0), mean.numpy(), atol=0.02)
    with pytest.raises(ValueError, match="`x` must be what was fitted, 40 rows; got 7"):
        to_arviz(result, x[:7], y[:7], n_draws=3)


@pytest.mark.parametrize("name", ["object", "dirichlet"])
def test_netcdf_round_trip(name: str, tmp_path: Path) -> None:
    result, x, y = fitted(name)
    before = to_arviz(result, x, y, n_draws=6)
    before.to_netcdf(str(tmp_path / "fit.nc"))
    after = from_netcdf(tmp_path / "fit.nc")
    for group_name, dataset in datasets_of(before).items():
        assert dataset.equals(group(after, group_name))


def test_a_gate_alone_is_converted() -> None:
    x, r = inputs(6), responsibilities(6, 3)
    cases: tuple[tuple[Gate, tuple[str, ...]], ...] = (
        (DirichletGate(3), ("chain", "draw", "component")),
        (ObjectDirichletGate(3, concentration=5.0), ("chain", "draw", "object", "component")),
    )
    for gate, axes in cases:
        gate.update(gate.statistics(x, r))
        data = to_arviz(gate, x, objects=slice(None), n_draws=3000)
        weights = data["posterior"]["gate.weights"]
        assert weights.dims == axes
        means = gate.weights(x, objects=slice(None))
        mean = means[0] if len(axes) == 3 else means
        np.testing.assert_allclose(weights.values.mean((0, 1)), mean.numpy(), atol=0.02)
        np.testing.assert_allclose(data["constant_data"]["gate.mean_weights"].values, means.numpy())
        assert data["prior"]["gate.weights"].sizes["draw"] == 3000


def test_a_gate_without_latent_weights_has_mean_weights_only() -> None:
    gate, x = NeuralGate(2, nn.Linear(2, 2).double()), inputs(4)
    data = to_arviz(gate, x)
    assert set(datasets_of(data)) == {"constant_data"}
    np.testing.assert_array_equal(data["constant_data"]["gate.mean_weights"].values, gate.weights(x).detach().numpy())


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_draws_by_nuts_are_kept() -> None:
    result, x, y = fitted()
    torch.manual_seed(0)
    mcmc = MCMC(NUTS(result.mixture.model), num_samples=4, warmup_steps=2, disable_progbar=True)
    mcmc.run(x[:10], y[:10])
    samples = mcmc.get_samples(group_by_chain=True)
    data = to_arviz(result.mixture, x[:10], y[:10], samples=samples, n_draws=3)
    assert set(group(data, "sample_stats")) == {"lp"}
    np.testing.assert_array_equal(data["posterior"]["gate.weights"].values, samples["gate.weights"].numpy())
    assert data["prior"]["gate.weights"].sizes["draw"] == 3


def test_chains_are_kept_separate() -> None:
    result, x, y = fitted()
    one = to_arviz(result, x, y, n_draws=12)
    samples = {
        name: torch.as_tensor(values.values).reshape(3, 4, *values.shape[2:])
        for name, values in group(one, "posterior").items()
    }
    three = to_arviz(result.mixture, x, y, samples=samples)
    for before, after in (("log_likelihood_of_guide", "log_likelihood"), ("posterior", "posterior")):
        for name, values in group(three, after).items():
            assert values.sizes["chain"] == 3
            expected = one[before][name].values.reshape(values.shape)
            np.testing.assert_allclose(values.values, expected, rtol=1e-12)


@pytest.mark.parametrize("name", GATES)
def test_global_state_is_not_changed(name: str) -> None:
    result, x, y = fitted(name)
    before = torch.get_rng_state()
    first, second = (to_arviz(result, x, y, n_draws=4) for _ in range(2))
    plot_expert_lines(first, result)
    plot_gate_curve(first, result)
    ResponsibilityDraws(first, result, x, y).summary()
    assert torch.equal(torch.get_rng_state(), before)
    assert len(pyro.get_param_store()) == 0
    assert group(first, "posterior").equals(group(second, "posterior"))


@pytest.mark.usefixtures("bad_arguments")
def test_bad_arguments_are_refused() -> None:
    result, x, y = fitted()
    for arguments, options, error, message in (
        ((result, x), {}, ValueError, "`y` must be given for a mixture, and with `x`; got None"),
        ((object(), x, y), {}, TypeError, "`fitted` must be what `fit` returned or a mixture or a gate; got <object"),
        ((result, x, y[:5]), {}, ValueError, "`y` must have as many rows as `x`, 40; got 5"),
        ((result, x, y), {"feature_names": ["a", "b"]}, ValueError, "`feature_names` must be 1 names.*got 2"),
        ((result, x, y), {"samples": {}}, ValueError, "`samples` must hold every latent site.*gate.weights is missing"),
        ((result, x, y), {"n_draws": 0}, ValueError, "`n_draws` must be at least 1; got 0"),
    ):
        with pytest.raises(error, match=message):
            to_arviz(*arguments, **options)
