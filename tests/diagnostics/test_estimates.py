"""Parameters without a posterior: out of the draws, in the constants, and said by every diagnostic."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mixpyro import (
    DirichletGate,
    FitResult,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    SoftmaxGate,
    fit,
    to_arviz,
)
from mixpyro.diagnostics import Alignment, ResponsibilityDraws, compare_loo, khat, loo, relabel, resample
from mixpyro.diagnostics.arviz_versions import datasets_of, group
from mixpyro.experts.families import Categorical, Gaussian, Poisson
from mixpyro.gates import Gate
from tests.problems import lines

pytestmark = pytest.mark.usefixtures("without_type_checks")


def fitted(gate: Gate, experts: Any = None) -> tuple[FitResult, Tensor, Tensor]:
    """Fit two lines under a gate."""
    x, y, z = lines(60, 2)
    start = torch.nn.functional.one_hot(z, 2).double() + 0.1
    mixture = MixtureOfExperts(gate, LinearExperts(2, 1) if experts is None else experts)
    return fit(mixture, x, y, initial_responsibilities=start, progress=False), x, y


def test_a_map_estimate_is_a_constant_and_no_draw() -> None:
    result, x, y = fitted(SoftmaxGate(2, 1, prior_scale=2.0))
    data = to_arviz(result, x, y, n_draws=40, feature_names=["dose"], intervals="mean field")
    assert set(group(data, "posterior")) == {"experts.precision", "experts.coefficients"}
    estimate = group(data, "constant_data")["gate.coefficients_estimate"]
    np.testing.assert_array_equal(estimate.values, result.mixture.gate.coefficients.numpy())
    assert estimate.dims == ("gate_component", "gate_regressor")
    assert estimate.coords["gate_component"].values.tolist() == [1]
    assert estimate.coords["gate_regressor"].values.tolist() == ["intercept", "dose"]
    attributes = group(data, "posterior").attrs
    assert attributes["n_estimated_parameters"] == 2
    assert attributes["point_estimates"] == "gate.coefficients_estimate"
    assert attributes["log_prior_left_out"] == "point estimates: gate.coefficients_estimate"
    assert set(group(data, "log_prior")) == {"experts.precision", "experts.coefficients"}
    assert set(group(data, "prior")) == {"experts.precision", "experts.coefficients", "gate.coefficients"}


def test_draws_of_a_gate_by_mcmc_are_draws() -> None:
    result, x, y = fitted(SoftmaxGate(2, 1, prior_scale=2.0))
    samples = {
        "gate.coefficients": torch.randn(1, 8, 1, 2).double(),
        "experts.coefficients": torch.randn(1, 8, 2, 1, 2).double(),
        "experts.precision": torch.ones(1, 8, 2, 1).double(),
    }
    data = to_arviz(result.mixture, x, y, samples=samples)
    drawn = group(data, "posterior")["gate.coefficients"]
    assert drawn.dims == ("chain", "draw", "gate_component", "gate_regressor")
    np.testing.assert_array_equal(drawn.values, samples["gate.coefficients"].numpy())
    assert group(data, "posterior").attrs["n_estimated_parameters"] == 0
    assert set(group(data, "log_prior")) == set(samples)


@pytest.mark.parametrize("prior_scale", [None, 2.0])
def test_diagnostics_say_that_estimates_are_taken_as_known(prior_scale: float | None) -> None:
    result, x, y = fitted(SoftmaxGate(2, 1, prior_scale=prior_scale))
    data = to_arviz(result, x, y, n_draws=200, intervals="mean field")
    for name, diagnostic in (("khat", khat), ("loo", loo), ("resample", resample)):
        with pytest.warns(RuntimeWarning, match=rf"2 parameters are point estimates \(gate.coefficients_e.*: {name}"):
            found: Any = diagnostic(data)
        if name == "loo":
            assert found.n_estimated == 2
            assert "2 point estimates taken as known" in str(found)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Its table has a column for them.
        assert compare_loo({"one": data})["one"].n_estimated == 2


def test_khat_of_estimates_alone_is_refused_and_beside_an_exact_posterior_is_no_number() -> None:
    """Neither is −∞, the mark of an exact posterior."""
    result, x, y = fitted(SoftmaxGate(2, 1, prior_scale=2.0), GLMExperts(2, 1, Gaussian(), prior_scale=3.0))
    data = to_arviz(result, x, y, n_draws=30, intervals="mean field")
    assert "posterior" not in datasets_of(data)
    with pytest.raises(ValueError, match=r"`data` must have draws of latent parameters; got 8 point estimates"):
        khat(data)
    with pytest.raises(ValueError, match="`data` must have latent parameters to be drawn"):
        loo(data)
    with pytest.raises(ValueError, match="`data` must have draws of latent parameters from a guide"):
        resample(data)
    # One component: the weight is known, and the experts are estimated.
    x, y, _ = lines(60, 1)
    mixture = MixtureOfExperts(DirichletGate(1), GLMExperts(1, 1, Gaussian()))
    data = to_arviz(fit(mixture, x, y, n_restarts=1, progress=False), x, y, n_draws=30, intervals="mean field")
    with pytest.warns(RuntimeWarning, match="3 parameters are point estimates"):
        assert np.isnan(khat(data))


def test_estimates_are_used_where_draws_are_read() -> None:
    result, x, y = fitted(SoftmaxGate(2, 1, prior_scale=2.0))
    data = to_arviz(result, x, y, n_draws=300, intervals="mean field")
    mean = ResponsibilityDraws(data, result, x, y).summary().mean
    np.testing.assert_allclose(mean, result.responsibilities.numpy(), atol=0.05)


@pytest.mark.parametrize(
    ("family", "axes"),
    [
        (Poisson(), {"experts.coefficients_estimate": ("component", "output", "regressor")}),
        (Categorical(3), {"experts.coefficients_estimate": ("component", "category", "regressor")}),
        (
            Gaussian(),
            {
                "experts.coefficients_estimate": ("component", "output", "regressor"),
                "experts.log_scale": ("component",),
            },
        ),
    ],
)
def test_estimates_have_named_axes(family: Any, axes: dict[str, tuple[str, ...]]) -> None:
    x = torch.randn(20, 2).double()
    mixture = MixtureOfExperts(SoftmaxGate(2, 2), GLMExperts(2, 2, family), name="model")
    y = torch.randint(0, 3, (20,)).double()
    constants = group(to_arviz(mixture, x, y, n_draws=2, feature_names=["dose", "age"]), "constant_data")
    axes = axes | {"gate.coefficients_estimate": ("gate_component", "gate_regressor")}
    assert {str(name): one.dims for name, one in constants.items() if name != "x"} == axes
    regressors = ["intercept", "dose", "age"]
    assert constants["gate.coefficients_estimate"].coords["gate_regressor"].values.tolist() == regressors
    assert constants["experts.coefficients_estimate"].coords["regressor"].values.tolist() == regressors


def test_components_with_an_estimate_keep_their_labels() -> None:
    result, x, y = fitted(SoftmaxGate(2, 1, prior_scale=2.0))
    data = to_arviz(result, x, y, n_draws=5, intervals="mean field")
    order = np.tile([0, 1], (5, 1))
    kept = Alignment(order, np.ones((5, 2)), result.responsibilities.numpy(), 1)
    assert group(relabel(data, kept), "posterior").equals(group(data, "posterior"))
    with pytest.raises(ValueError, match=r"must keep the labels of components with a point estimate, gate.coeff"):
        relabel(data, kept._replace(order=order[:, ::-1]))


def test_one_component_has_no_coefficients() -> None:
    x, y, _ = lines(30, 1)
    mixture = MixtureOfExperts(SoftmaxGate(1, 1, prior_scale=2.0), LinearExperts(1, 1))
    data = to_arviz(fit(mixture, x, y, n_restarts=1, progress=False), x, y, n_draws=30)
    assert group(data, "posterior").attrs["n_estimated_parameters"] == 0
    assert khat(data) == -np.inf


def test_a_gate_alone_keeps_its_estimate_out_of_the_posterior() -> None:
    gate = SoftmaxGate(3, 1, prior_scale=1.0)
    data = to_arviz(gate, torch.zeros(4, 1).double(), n_draws=5)
    assert set(datasets_of(data)) == {"prior", "constant_data"}
    assert group(data, "prior")["gate.coefficients"].dims == ("chain", "draw", "gate_component", "gate_regressor")
    assert group(data, "constant_data").attrs["n_estimated_parameters"] == 4
