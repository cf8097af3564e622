"""Groups of a Pyro program: priors, predictions of the prior, counts, and sites without a posterior."""

from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoDelta, AutoGuideList, AutoNormal
from pyro.ops.indexing import Vindex
from torch import Tensor

from mixpyro import AutoGate, DirichletGate
from mixpyro.diagnostics import ProgramResponsibilities, align, khat, loo, program_to_arviz, relabel
from mixpyro.diagnostics.arviz_versions import arviz, datasets_of, group, has_data_trees
from tests.diagnostics.programs import (
    N,
    S,
    converted,
    draws_of_mixture,
    log_prior,
    mixed,
    normal,
    numbers,
    of,
    some_rows,
)

pytestmark = pytest.mark.usefixtures("without_type_checks")


def a_mixture(y: Tensor, gate: DirichletGate) -> Any:
    """Return a program with means, a scale and the gate's weights."""

    def model(y: Tensor) -> None:
        means = pyro.sample("means", normal([-2.0, 2.0], 5.0).to_event(1))
        scale = pyro.sample("scale", dist.Gamma(torch.tensor(2.0).double(), 2.0))
        plate = pyro.plate("objects", len(y), dim=-1)
        z = gate.model(y.reshape(len(y), -1), plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(Vindex(means)[..., z], scale), obs=y)

    return model


def a_guide(model: Any, gate: DirichletGate, y: Tensor, *, fixed: list[str]) -> AutoGuideList:
    """Return a guide with one value for some sites, a Normal for others, and the gate's own posterior."""
    pyro.clear_param_store()
    guides = AutoGuideList(model)
    drawn = [name for name in ("means", "scale") if name not in fixed]
    if fixed:
        guides.append(AutoDelta(poutine.block(model, expose=fixed)))
    if drawn:
        guides.append(AutoNormal(poutine.block(model, expose=drawn)))
    guides.append(AutoGate(model, gate))
    guides(y)
    return guides


def test_sites_with_one_value_are_constants_and_no_draws() -> None:
    y, gate = numbers(N) + 2.0 * (torch.arange(N) % 2) - 1.0, DirichletGate(2)
    model = a_mixture(y, gate)
    guide = a_guide(model, gate, y, fixed=["means"])
    with pytest.warns(RuntimeWarning, match="`guide` has one value for means"):
        data = program_to_arviz(model, y, guide=guide, n_draws=60, axes={"means": ("component",)})
    assert set(group(data, "posterior")) == {"scale", "gate.weights"}
    assert set(group(data, "log_prior")) == {"scale", "gate.weights"}
    means = group(data, "constant_data")["means"]
    assert means.dims == ("component",)
    np.testing.assert_array_equal(means.values, guide.median(y)["means"].detach())
    attributes = group(data, "posterior").attrs
    assert (attributes["n_estimated_parameters"], attributes["point_estimates"]) == (2, "means")
    assert attributes["log_prior_left_out"] == "point estimates: means"
    for name, diagnostic in (("khat", khat), ("loo", loo)):
        with pytest.warns(RuntimeWarning, match=rf"2 parameters are point estimates \(means\): {name} takes them"):
            diagnostic(data)


def test_responsibilities_read_sites_with_one_value() -> None:
    y, gate = numbers(N) + 2.0 * (torch.arange(N) % 2) - 1.0, DirichletGate(2)
    model = a_mixture(y, gate)
    guide = a_guide(model, gate, y, fixed=["means"])
    with pytest.warns(RuntimeWarning, match="one value"):
        data = program_to_arviz(model, y, guide=guide, n_draws=S, axes={"means": ("component",)})
    responsibilities = ProgramResponsibilities(data, model, y)
    draws = {name: torch.as_tensor(one.values[0]) for name, one in group(data, "posterior").items()}
    means = torch.as_tensor(group(data, "constant_data")["means"].values)
    log_joint = draws["gate.weights"].log().unsqueeze(1) + dist.Normal(
        means, draws["scale"].reshape(-1, 1, 1)
    ).log_prob(y[:, None])
    found = np.concatenate(list(responsibilities))
    np.testing.assert_allclose(found, log_joint.softmax(-1), atol=1e-10)
    # All draws have the labels of the estimates.
    aligned = relabel(data, align(responsibilities))
    np.testing.assert_array_equal(
        group(aligned, "posterior")["gate.weights"].values, group(data, "posterior")["gate.weights"].values
    )


def test_a_guide_of_estimates_alone_leaves_nothing_to_diagnose() -> None:
    def model(y: Tensor) -> None:
        mean = pyro.sample("mean", normal(0.0, 5.0))
        with pyro.plate("objects", N):
            pyro.sample("y", normal(mean), obs=y)

    pyro.clear_param_store()
    y, guide = numbers(N), AutoDelta(model)
    guide(y)
    with pytest.warns(RuntimeWarning, match="one value for mean"):
        data = program_to_arviz(model, y, guide=guide, n_draws=40)
    assert "posterior" not in datasets_of(data)
    with pytest.raises(ValueError, match="`data` must have draws of latent parameters; got 1 point estimates"):
        khat(data)
    with pytest.raises(ValueError, match="`data` must have latent parameters to be drawn"):
        loo(data)


def test_draws_of_a_guide_and_of_mcmc_have_groups_of_other_names() -> None:
    y, gate = numbers(N), DirichletGate(2)
    model = a_mixture(y, gate)
    of_guide = program_to_arviz(model, y, guide=a_guide(model, gate, y, fixed=[]), n_draws=40)
    assert "log_likelihood" not in datasets_of(of_guide)
    with pytest.raises(TypeError, match="log likelihood not found"):
        arviz().loo(of_guide)
    samples = {name: torch.as_tensor(one.values) for name, one in group(of_guide, "posterior").items()}
    by_mcmc = program_to_arviz(model, y, samples=samples)
    np.testing.assert_allclose(of(by_mcmc, "log_likelihood", "y"), of(of_guide, "log_likelihood_of_guide", "y"))


def test_log_prior_of_each_site() -> None:
    y = numbers(N)

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        with plate:
            pyro.sample("y", normal(mean), obs=y)

    data = converted(likelihood, y)
    np.testing.assert_allclose(of(data, "log_prior", "means"), log_prior(), rtol=1e-12)
    np.testing.assert_allclose(of(data, "log_prior", "gate.weights"), np.zeros(S), atol=1e-12)
    total = of(data, "log_likelihood", "y").sum(-1) + of(data, "log_prior", "means")
    np.testing.assert_allclose(of(data, "sample_stats", "lp"), total, rtol=1e-10)


def test_predictions_of_the_prior_go_with_its_draws() -> None:
    y = numbers(N)

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        with plate:
            pyro.sample("y", normal(mean, 1e-6), obs=y)

    data = converted(likelihood, y)
    predicted, means = of(data, "prior_predictive", "y"), group(data, "prior")["means"].values[0]
    assert predicted.shape == (len(means), N)
    nearest = np.abs(predicted[:, :, None] - means[:, None, :]).min(-1)
    assert nearest.max() < 1e-4


def test_a_parameter_without_a_prior_leaves_no_predictions_of_one() -> None:
    def model(y: Tensor) -> None:
        scale = pyro.param("scale", torch.ones(()).double(), constraint=dist.constraints.positive)
        mean = pyro.sample("mean", normal(0.0, 5.0))
        with pyro.plate("objects", N):
            pyro.sample("y", dist.Normal(mean, scale), obs=y)

    pyro.clear_param_store()
    data = program_to_arviz(model, numbers(N), guide=lambda y: pyro.sample("mean", normal(0.0, 0.5)), n_draws=40)
    assert {"prior", "posterior"} <= set(datasets_of(data))
    assert "prior_predictive" not in datasets_of(data)
    attributes = group(data, "posterior").attrs
    assert attributes["prior_predictive_left_out"] == "no draws from a prior of scale"
    assert attributes["point_estimates"] == "scale"


@pytest.mark.parametrize("in_a_row", [False, True])
def test_one_number_an_object_has_the_axis_of_objects_alone(in_a_row: bool) -> None:
    """Whether y is [N] or rows [N, 1] of a vector of one number."""
    y = numbers(N, 1) if in_a_row else numbers(N)

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        fn = normal(mean.unsqueeze(-1)).to_event(1) if in_a_row else normal(mean)
        with plate:
            pyro.sample("y", fn, obs=y)

    data = converted(likelihood, y)
    for name in ("posterior_predictive", "prior_predictive", "observed_data"):
        assert group(data, name)["y"].dims[-1] == "object"
        assert len(group(data, name)["y"].dims) == (1 if name == "observed_data" else 3)
    np.testing.assert_array_equal(group(data, "observed_data")["y"].values, y.flatten())
    by_component = normal(draws_of_mixture()["means"][0].unsqueeze(1)).log_prob(y.reshape(-1, 1))
    np.testing.assert_allclose(of(data, "log_likelihood", "y"), mixed(by_component), atol=1e-10)


@pytest.mark.parametrize(
    "fn",
    [
        lambda mean: dist.Poisson(mean.exp()),
        lambda mean: dist.Binomial(3, logits=mean),
        lambda mean: dist.Bernoulli(logits=mean),
        lambda mean: dist.Categorical(logits=torch.stack([mean, -mean, 0.0 * mean], -1)),
        lambda mean: dist.NegativeBinomial(2.0, logits=-mean.abs()),
    ],
)
def test_counts_are_whole_numbers(fn: Any) -> None:
    y = (torch.arange(N) % 2).double()

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        with plate:
            pyro.sample("y", fn(mean), obs=y)

    data = converted(likelihood, y)
    for name in ("posterior_predictive", "prior_predictive", "observed_data"):
        assert group(data, name)["y"].dtype == np.int64
    np.testing.assert_array_equal(group(data, "observed_data")["y"].values, y.numpy())


def test_a_count_that_is_masked_beside_others_has_no_number() -> None:
    y, seen = (torch.arange(2 * N).reshape(N, 2) % 3).double(), some_rows()

    def likelihood(mean: Tensor, plate: pyro.plate) -> None:
        with plate:
            pyro.sample("y1", dist.Poisson(mean.exp()), obs=y[:, 0])
            with poutine.mask(mask=seen):
                pyro.sample("y2", dist.Poisson(mean.exp()), obs=y[:, 1])

    data = converted(likelihood, y)
    assert group(data, "observed_data")["y1"].dtype == np.int64
    np.testing.assert_array_equal(np.isnan(group(data, "observed_data")["y2"].values), ~seen.numpy())


def test_arviz_summarises_programs() -> None:
    y, gate = numbers(N), DirichletGate(2)
    model = a_mixture(y, gate)
    data = program_to_arviz(model, y, guide=a_guide(model, gate, y, fixed=[]), n_draws=40)
    table = arviz().summary(data, kind="stats", **({"round_to": 3} if has_data_trees() else {}))
    assert len(table) == 5
