"""The guide with the gates' posteriors in it, in what Pyro offers after training."""

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Importance, Predictive, TraceEnum_ELBO, infer_discrete
from pyro.infer.autoguide import AutoNormal, init_to_value
from pyro.optim import ClippedAdam
from torch import Tensor

from mixpyro import ConjugateSVI, DirichletGate, ObjectDirichletGate, SoftmaxGate
from mixpyro.gates import Gate

pytestmark = pytest.mark.usefixtures("without_type_checks")

GATES: dict[str, Callable[[], Gate]] = {
    "dirichlet": lambda: DirichletGate(2),
    "object": lambda: ObjectDirichletGate(2, concentration=3.0),
    "softmax": lambda: SoftmaxGate(2, 1, prior_scale=1.0),
}


def trained(gate: Gate) -> tuple[ConjugateSVI, Tensor, Tensor]:
    """Sixty objects around zero and forty around eight."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(100, generator=generator).double() + 8.0 * (torch.arange(100) >= 60)
    x = torch.zeros(100, 1).double()
    start = torch.tensor([0.0, 8.0]).double()

    def model(x: Tensor, y: Tensor | None = None) -> Tensor:
        means = pyro.sample("means", dist.Normal(start, 10.0).to_event(1))
        plate = pyro.plate("objects", len(x), dim=-1)
        z = gate.model(x, plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(means[z], 1.0), obs=y)
        return z

    guide = AutoNormal(
        poutine.block(model, hide=gate.latent_sites),
        init_loc_fn=init_to_value(values={"means": start}),
        init_scale=0.01,
    )
    svi = ConjugateSVI(model, guide, ClippedAdam({"lr": 0.01}), TraceEnum_ELBO(max_plate_nesting=1), gates=gate)
    for _ in range(100):
        svi.step(x, y)
    return svi, x, y


def test_predictive_draws_the_weights_from_their_posterior() -> None:
    svi, x, _ = trained(DirichletGate(2))
    torch.manual_seed(0)
    draws = Predictive(svi.model, guide=svi.full_guide, num_samples=500)(x)
    weights = draws["gate.weights"].reshape(500, 2)
    posterior = dist.Dirichlet(torch.tensor([61.0, 41.0]).double())
    assert ((weights.mean(0) - posterior.mean).abs() < 4 * posterior.stddev / 500**0.5).all()
    torch.testing.assert_close(weights.std(0), posterior.stddev, rtol=0.2, atol=0)
    assert float((draws["y"] > 4.0).double().mean()) == pytest.approx(0.4, abs=0.03)


def test_the_most_probable_assignments_are_found() -> None:
    svi, x, y = trained(DirichletGate(2))
    for _ in range(3):
        trace = poutine.trace(svi.full_guide).get_trace(x, y)
        model = infer_discrete(poutine.replay(svi.model, trace=trace), first_available_dim=-2, temperature=0)
        assert torch.equal(model(x, y), (y > 4.0).long())


@pytest.mark.filterwarnings("ignore:Found vars in model but not guide")
def test_importance_weights_are_those_of_the_posterior() -> None:
    """The guide is all but exact here, so that the weights hardly differ, with z summed out."""
    svi, x, y = trained(DirichletGate(2))
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    torch.manual_seed(0)
    losses = torch.tensor([elbo.loss(svi.model, svi.full_guide, x, y) for _ in range(200)])
    from_prior = torch.tensor([elbo.loss(svi.model, svi.guide, x, y) for _ in range(50)])
    assert float(losses.mean()) < svi.evaluate_loss(x, y) + 0.5
    assert float(from_prior.mean()) > float(losses.mean()) + 2.0
    torch.manual_seed(0)
    posterior = Importance(svi.model, guide=svi.full_guide, num_samples=3).run(x, y)
    assert all("gate.weights" in trace.nodes for trace in posterior.exec_traces)


@pytest.mark.parametrize("name", GATES)
def test_it_samples_all_that_is_continuous(name: str) -> None:
    gate = GATES[name]()
    svi, x, y = trained(gate)
    drawn = svi.full_guide(x, y)
    weights = {site for site in gate.latent_sites if site != "gate.assignment"}
    assert set(drawn) == {"means", *weights} | (set(drawn) & {"means_unconstrained"})
    if name == "object":
        torch.manual_seed(0)
        mean = torch.stack([svi.full_guide(x, y)["gate.weights"] for _ in range(300)]).mean(0)
        torch.testing.assert_close(mean, gate.weights(x, objects=slice(None)), rtol=0, atol=0.08)


def test_a_subsample_that_the_model_draws_is_the_one_of_the_guide() -> None:
    gate = DirichletGate(2, batch_shape=(6,))
    gate.hold_posterior(gate.posterior._replace(concentration=1.0 + 1e6 * torch.eye(2).double().repeat(3, 1)))

    def model() -> None:
        with pyro.plate("parts", 6, subsample_size=3, dim=-1) as rows:
            z = gate.model(torch.zeros(4, 3).double(), plate=pyro.plate("objects", 4, dim=-2))
            pyro.deterministic("rows", torch.as_tensor(rows))
            pyro.deterministic("z", z)

    svi = ConjugateSVI(model, lambda: None, ClippedAdam({}), TraceEnum_ELBO(max_plate_nesting=2), gates=gate)
    for _ in range(5):
        guide = poutine.trace(svi.full_guide).get_trace()
        drawn = poutine.trace(poutine.replay(svi.model, trace=guide)).get_trace().nodes
        assert torch.equal(drawn["z"]["value"], (drawn["rows"]["value"] % 2).expand(4, 3))
