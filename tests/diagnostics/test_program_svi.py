"""Conversion of a ConjugateSVI: README's own program, its arguments and its parameters."""

import functools
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.optim import ClippedAdam
from torch import Tensor, nn

from mixpyro import ConjugateSVI, DirichletGate, NeuralGate
from mixpyro.diagnostics import khat, loo, program_to_arviz
from mixpyro.diagnostics.arviz_versions import datasets_of, from_netcdf, group
from mixpyro.diagnostics.log_likelihoods import log_likelihoods

pytestmark = pytest.mark.usefixtures("without_type_checks")

N, S = 30, 40


def data() -> tuple[Tensor, Tensor]:
    """Return x [N, 1] and y [N, 1] in two clusters of 20 and 10."""
    generator = torch.Generator().manual_seed(0)
    z = torch.arange(N) % 3 == 0
    y = torch.where(z, 3.0, -3.0) + torch.randn(N, generator=generator)
    return torch.randn(N, 1, generator=generator), y.unsqueeze(-1)


def trained(n_steps: int = 200) -> tuple[ConjugateSVI, DirichletGate]:
    """Return the SVI of README's program."""
    pyro.clear_param_store()
    gate = DirichletGate(2)

    def model(x: Tensor, y: Tensor) -> None:
        means = pyro.sample("means", dist.Normal(0.0, 10.0).expand([2]).to_event(1))
        plate = pyro.plate("objects", len(x), dim=-1)
        z = gate.model(x, plate=plate)  # before `with plate`
        with plate:
            pyro.sample("y", dist.Normal(means[z], 1.0), obs=y[:, 0])

    def start(site: Any) -> Tensor:
        return torch.tensor([-3.0, 3.0])

    guide = AutoNormal(poutine.block(model, hide=gate.latent_sites), init_loc_fn=start)
    svi = ConjugateSVI(model, guide, ClippedAdam({"lr": 0.03}), TraceEnum_ELBO(max_plate_nesting=1), gates=gate)
    x, y = data()
    torch.manual_seed(0)
    for _ in range(n_steps):
        svi.step(x, y)
    return svi, gate


def test_the_weights_are_drawn_from_the_posterior_of_the_gate() -> None:
    (svi, gate), (x, y) = trained(), data()
    before = {name: value.clone() for name, value in pyro.get_param_store().items()}
    state, posterior = torch.get_rng_state(), gate.posterior_concentration.clone()
    with pytest.warns(RuntimeWarning, match="`model` is run for each of 100 draws alone.*Vindex") as warned:
        found = program_to_arviz(svi, x, y, n_draws=100)
    assert len(warned) == 1
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(gate.posterior_concentration, posterior)
    for name, value in pyro.get_param_store().items():
        assert torch.equal(value, before[name])
    draws = group(found, "posterior")["gate.weights"].values[0]
    expected = dist.Dirichlet(posterior)
    np.testing.assert_allclose(draws.mean(0), expected.mean, atol=4 * float(expected.stddev.max()) / 10)
    np.testing.assert_allclose(draws.std(0), expected.stddev, rtol=0.2)
    assert khat(found) < 0.7
    assert set(datasets_of(found)) == {
        "posterior",
        "posterior_predictive",
        "log_likelihood_of_guide",
        "log_prior",
        "prior_predictive",
        "sample_stats",
        "prior",
        "observed_data",
        "constant_data",
    }


def test_a_plain_svi_gives_its_model_and_guide(tmp_path: Any) -> None:
    x, y = data()

    def model(x: Tensor, y: Tensor, *, offset: Tensor, unused: str = "") -> None:
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        with pyro.plate("objects", len(x)):
            pyro.sample("y", dist.Normal(slope * x[:, 0] + offset, 1.0), obs=y[:, 0])

    svi = SVI(model, AutoNormal(model), ClippedAdam({"lr": 0.1}), Trace_ELBO())
    svi.step(x, y, offset=torch.ones(()))
    found = program_to_arviz(svi, x, y, offset=torch.ones(()), n_draws=S)
    constants = group(found, "constant_data")
    assert set(constants) == {"x", "offset"}
    np.testing.assert_array_equal(constants["x"].values, x)
    assert constants["x"].dims == ("object", "x_dim_0")
    found.to_netcdf(str(tmp_path / "draws.nc"))
    read = from_netcdf(tmp_path / "draws.nc")
    np.testing.assert_array_equal(log_likelihoods(read)["y"].values, log_likelihoods(found)["y"].values)


def test_arguments_that_are_observed_are_no_constants() -> None:
    """Whether an argument is observed itself, as a view, column by column or converted; x and y share a storage."""
    table = torch.randn(N, 4)

    class Model(nn.Module):
        def forward(self, x: Tensor, whole: Tensor, columns: Tensor, converted: Tensor, *rest: Tensor) -> None:
            mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
            with pyro.plate("objects", N):
                pyro.sample("a", dist.Normal(mean, 1.0), obs=whole)
                pyro.sample("b", dist.Normal(mean, 1.0), obs=columns[:, 0])
                pyro.sample("c", dist.Normal(mean, 1.0), obs=columns[:, 1])
                pyro.sample("d", dist.Normal(mean, 1.0), obs=converted.double())
                pyro.sample("e", dist.Normal(mean + rest[0] + x, 1.0), obs=table[:, 3] + 1.0)

    def guide(*arguments: Tensor) -> None:
        pyro.sample("mean", dist.Normal(0.0, 1.0))

    arguments = (table[:, 0], table[:, 1], table[:, 2:], torch.arange(N), torch.ones(N))
    found = program_to_arviz(Model(), *arguments, guide=guide, n_draws=2)
    assert set(group(found, "constant_data")) == {"x", "rest_0"}
    assert list(log_likelihoods(found)) == ["a", "b", "c", "d", "e"]
    assert log_likelihoods(found)["e"].dims == ("chain", "draw", "object")


@pytest.mark.parametrize("kind", ["handlers", "partial", "method"])
def test_arguments_have_the_names_of_the_innermost_function(kind: str) -> None:
    x, y = data()

    def model(factor: float, unit: float, x: Tensor, y: Tensor) -> None:
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        with pyro.plate("objects", len(x)):
            pyro.sample("y", dist.Normal(factor * unit * slope * x[:, 0], 1.0), obs=y[:, 0])

    class Owner:
        def program(self, x: Tensor, y: Tensor) -> None:
            model(2.0, 3.0, x, y)

    partial = functools.partial(model, 2.0, 3.0)
    programs: dict[str, Any] = {
        "handlers": poutine.scale(poutine.block(Owner().program, hide=["nothing"]), scale=1.0),
        "partial": partial,
        "method": Owner().program,
    }
    found = program_to_arviz(programs[kind], x, y, samples={"slope": torch.zeros(1, 3)})
    assert list(group(found, "constant_data")) == ["x"]


def test_a_program_of_parameters_only() -> None:
    """No posterior and no k-hat; the likelihood is that of the estimates, and replicates differ from draw to draw."""
    pyro.clear_param_store()
    x, y = data()
    gate = NeuralGate(2, nn.Linear(1, 2))

    def model(x: Tensor, y: Tensor) -> None:
        means = pyro.param("means", torch.tensor([-3.0, 3.0]))
        plate = pyro.plate("objects", len(x), dim=-1)
        z = gate.model(x, plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(means[z], 1.0), obs=y[:, 0])

    svi = ConjugateSVI(model, lambda x, y: None, ClippedAdam({"lr": 0.03}), gates=gate)
    for _ in range(20):
        svi.step(x, y)
    found = program_to_arviz(svi, x, y, n_draws=S)
    assert not {"posterior", "prior"} & set(datasets_of(found))
    means = pyro.param("means").detach()
    log_joint = gate.weights(x).log() + dist.Normal(means, 1.0).log_prob(y)
    values = log_likelihoods(found)["y"].values[0]
    np.testing.assert_allclose(values, log_joint.logsumexp(-1).detach().expand(S, -1), rtol=1e-5)
    replicated = group(found, "posterior_predictive")["y"].values[0]
    assert replicated.shape == (S, N)
    assert replicated.std(0).min() > 0.0
    np.testing.assert_array_equal(group(found, "constant_data")["means"].values, means)
    assert log_likelihoods(found).attrs["n_estimated_parameters"] == 6
    with pytest.raises(ValueError, match="must have draws from a guide"):
        khat(found)
    with pytest.raises(ValueError, match="must have latent parameters to be drawn"):
        loo(found)


def test_axes_of_several_gates_and_of_plates() -> None:
    first, second = DirichletGate(2, name="first"), DirichletGate(3, name="second")
    x, y = data()

    def model(x: Tensor, y: Tensor) -> None:
        with pyro.plate("clusters", 2):
            means = pyro.sample("means", dist.Normal(0.0, 5.0))
        plate = pyro.plate("objects", N, dim=-1)
        z, w = first.model(x, plate=plate), second.model(x, plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(means[z] + w, 1.0), obs=y[:, 0])

    def guide(x: Tensor, y: Tensor) -> None:
        with pyro.plate("clusters", 2):
            pyro.sample("means", dist.Normal(0.0, 5.0))
        plate = pyro.plate("objects", N, dim=-1)
        first.guide(x, plate=plate)
        second.guide(x, plate=plate)

    with pytest.warns(RuntimeWarning, match="Vindex"):
        found = program_to_arviz(model, x, y, guide=guide, n_draws=3, axes={"clusters": ("first.component",)})
    posterior = group(found, "posterior")
    assert posterior["first.weights"].dims == posterior["means"].dims == ("chain", "draw", "first.component")
    assert posterior["second.weights"].dims == ("chain", "draw", "second.component")
    w = {name: torch.as_tensor(values.values[0]) for name, values in posterior.items()}
    location = w["means"].unsqueeze(-1) + torch.arange(3)
    weights = w["first.weights"].unsqueeze(-1) * w["second.weights"].unsqueeze(1)
    density = dist.Normal(location[:, None], 1.0).log_prob(y[:, :1, None]) + weights[:, None].log()
    np.testing.assert_allclose(log_likelihoods(found)["y"].values[0], density.logsumexp((-1, -2)), atol=1e-4)
