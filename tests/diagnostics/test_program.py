"""Conversion of a user's own Pyro program with a gate in it."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS
from pyro.infer.autoguide import AutoDiagonalNormal, AutoGuide, AutoGuideList, AutoMultivariateNormal, AutoNormal
from pyro.ops.indexing import Vindex
from torch import Tensor

from mixpyro import AutoGate, DirichletGate
from mixpyro.diagnostics import program_to_arviz
from mixpyro.diagnostics.arviz_versions import group
from mixpyro.numerics import blocks

pytestmark = pytest.mark.usefixtures("without_type_checks")

N, S = 20, 8
GATE = DirichletGate(2)


def data() -> tuple[Tensor, Tensor]:
    """Return x without columns and y in two clusters."""
    y = torch.cat([torch.randn(N // 2) - 3.0, torch.randn(N // 2) + 3.0]).double()
    return torch.zeros(N, 0).double(), y


def model(x: Tensor, y: Tensor | None = None) -> None:
    """Sample y from two Normals under the gate."""
    means = pyro.sample("means", dist.Normal(torch.tensor([-1.0, 1.0]).double(), 5.0).to_event(1))
    plate = pyro.plate("objects", len(x), dim=-1)
    assignment = GATE.model(x, plate=plate)
    with plate:
        pyro.sample("y", dist.Normal(Vindex(means)[..., assignment], 1.0), obs=y)


def guide(x: Tensor, y: Tensor | None = None) -> None:
    """Sample means near the clusters, and the weights from the gate's own guide."""
    pyro.sample("means", dist.Normal(torch.tensor([-3.0, 3.0]).double(), 0.2).to_event(1))
    GATE.guide(x, plate=pyro.plate("objects", len(x), dim=-1))


def expected(draws: dict[str, np.ndarray], y: Tensor) -> np.ndarray:
    """Return log Σₖ πₖ Normal(yᵢ; mₖ, 1) [S, N]."""
    means, weights = torch.as_tensor(draws["means"]), torch.as_tensor(draws["gate.weights"])
    log_joint = weights.log().unsqueeze(1) + dist.Normal(means.unsqueeze(1), 1.0).log_prob(y[:, None])
    return log_joint.logsumexp(-1).numpy()


@pytest.mark.parametrize("numbers", [2**18, 100])
def test_the_assignment_is_summed_out(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(numbers=numbers, program_factor=1))
    x, y = data()
    found = program_to_arviz(model, x, y, guide=guide, n_draws=S, axes={"means": ("component",)})
    posterior = group(found, "posterior")
    draws = {name: values.values[0] for name, values in posterior.items()}
    likelihood = expected(draws, y)
    np.testing.assert_allclose(found["log_likelihood_of_guide"]["y"].values[0], likelihood, atol=1e-10)
    assert posterior["means"].dims == posterior["gate.weights"].dims == ("chain", "draw", "component")
    prior = dist.Normal(torch.tensor([-1.0, 1.0]).double(), 5.0).log_prob(torch.as_tensor(draws["means"])).sum(-1)
    lp = likelihood.sum(1) + prior.numpy()  # a Dirichlet(1, 1) has the density one
    np.testing.assert_allclose(found["sample_stats"]["lp"].values[0], lp, rtol=1e-10)
    q = dist.Normal(torch.tensor([-3.0, 3.0]).double(), 0.2).log_prob(torch.as_tensor(draws["means"])).sum(-1)
    np.testing.assert_allclose(found["sample_stats"]["log_q"].values[0], q.numpy(), rtol=1e-10)
    assert found["posterior_predictive"]["y"].sizes == {"chain": 1, "draw": S, "object": N}


def over_everything(kind: type[AutoGuide]) -> AutoGuide:
    """Return an automatic guide of all continuous sites, the weights included."""
    return kind(poutine.block(model, hide=["gate.assignment"]))


def beside_the_gate(kind: type[AutoGuide]) -> AutoGuideList:
    """Return an automatic guide of all other sites beside an AutoGate."""
    guides = AutoGuideList(model)
    guides.append(kind(poutine.block(model, hide=GATE.latent_sites)))
    guides.append(AutoGate(model, GATE))
    return guides


AUTOMATIC: dict[str, Callable[[], AutoGuide]] = {
    **{
        kind.__name__: partial(over_everything, kind)
        for kind in (AutoNormal, AutoDiagonalNormal, AutoMultivariateNormal)
    },
    "AutoNormal beside AutoGate": lambda: beside_the_gate(AutoNormal),
    "AutoMultivariateNormal beside AutoGate": lambda: beside_the_gate(AutoMultivariateNormal),
}


@pytest.mark.parametrize("called_before", [True, False])
@pytest.mark.parametrize("name", AUTOMATIC)
def test_automatic_guides(name: str, called_before: bool) -> None:
    """Automatic guides start as Normals of scale 0.1 around the median in unconstrained space, so log q is known."""
    (x, y), automatic = data(), AUTOMATIC[name]()
    if called_before:
        automatic(x, y)
    found = program_to_arviz(model, x, y, guide=automatic, n_draws=S)
    posterior = group(found, "posterior")
    draws = {site: torch.as_tensor(values.values[0]) for site, values in posterior.items()}
    assert {site: tuple(values.shape) for site, values in draws.items()} == {"means": (S, 2), "gate.weights": (S, 2)}
    median = automatic.median(x, y)
    q = dist.Normal(median["means"], 0.1).log_prob(draws["means"]).sum(-1)
    if "AutoGate" in name:
        q = q + dist.Dirichlet(GATE.posterior_concentration).log_prob(draws["gate.weights"])
    else:
        to_weights = dist.transforms.StickBreakingTransform()
        base = dist.Normal(to_weights.inv(median["gate.weights"]), 0.1).to_event(1)
        q = q + dist.TransformedDistribution(base, [to_weights]).log_prob(draws["gate.weights"])
    np.testing.assert_allclose(group(found, "sample_stats")["log_q"].values[0], q.detach().numpy(), rtol=1e-8)
    likelihood = expected({site: values.numpy() for site, values in draws.items()}, y)
    np.testing.assert_allclose(group(found, "log_likelihood_of_guide")["y"].values[0], likelihood, atol=1e-10)


def test_a_guide_without_a_latent_variable_is_refused() -> None:
    x, y = data()
    automatic = AutoNormal(poutine.block(model, hide=GATE.latent_sites))
    with pytest.raises(
        ValueError, match=r"every continuous site that the model does not observe; got no 'gate.weights'"
    ):
        program_to_arviz(model, x, y, guide=automatic, n_draws=2)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_draws_by_nuts_are_kept() -> None:
    x, y = data()
    mcmc = MCMC(NUTS(model), num_samples=4, warmup_steps=4, disable_progbar=True)
    mcmc.run(x, y)
    found = program_to_arviz(model, x, y, samples=mcmc.get_samples(group_by_chain=True), n_draws=3)
    draws = {name: values.values[0] for name, values in group(found, "posterior").items()}
    np.testing.assert_allclose(found["log_likelihood"]["y"].values[0], expected(draws, y), atol=1e-10)
    assert "log_q" not in group(found, "sample_stats")


def test_models_that_cannot_be_converted_are_refused() -> None:
    x, y = data()

    def with_a_global_switch(x: Tensor, y: Tensor) -> None:
        switch = pyro.sample("switch", dist.Bernoulli(torch.tensor(0.5).double()))
        mean = pyro.sample("means", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
        with pyro.plate("objects", len(x), dim=-1):
            pyro.sample("y", dist.Normal(switch + mean[..., 0], 1.0), obs=y)

    with pytest.raises(ValueError, match="`model` must have its discrete sites in the plate of its data; 'switch'"):
        program_to_arviz(with_a_global_switch, x, y, guide=guide, n_draws=2)

    def without_a_plate(x: Tensor, y: Tensor) -> None:
        mean = pyro.sample("means", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(mean[..., :1], 1.0), obs=y[:1])

    with pytest.raises(ValueError, match="`model` must have an observed site inside a plate; got none"):
        program_to_arviz(without_a_plate, x, y, guide=guide, n_draws=2)
    with pytest.raises(ValueError, match="every continuous site that the model does not observe; got no 'y'"):
        program_to_arviz(model, x, guide=guide, n_draws=2)
    with pytest.raises(ValueError, match="`guide` or `samples` must be given; got neither"):
        program_to_arviz(model, x, y)


@pytest.mark.cuda
def test_draws_on_cuda_follow_from_the_seed() -> None:
    x = torch.zeros(N, device="cuda", dtype=torch.float64)

    def cluster(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(x.new_zeros(()), 1.0))
        with pyro.plate("objects", N, dim=-1):
            pyro.sample("y", dist.Normal(mean, 1.0), obs=x)

    def guide_of_cluster(x: Tensor) -> None:
        pyro.sample("mean", dist.Normal(x.new_zeros(()), 0.5))

    before = torch.cuda.get_rng_state()
    draws = [
        program_to_arviz(cluster, x, guide=guide_of_cluster, n_draws=S)["posterior"]["mean"].values for _ in range(2)
    ]
    np.testing.assert_array_equal(*draws)
    assert torch.equal(torch.cuda.get_rng_state(), before)
