"""q(π) fitted to the bound with z summed out given π, against quadrature, plain Pyro and finite differences."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyro.optim import ClippedAdam
from torch import Tensor

from mixpyro import ConjugateSVI, DirichletGate, ObjectDirichletGate
from mixpyro.numerics.dirichlet_nodes import dirichlet_nodes

pytestmark = pytest.mark.usefixtures("without_type_checks")

N = 200


def overlapping(n_seen: int = N) -> tuple[Tensor, Tensor]:
    """Two unit Gaussians at 0 and 1.5, and which objects have an outcome."""
    generator = torch.Generator().manual_seed(0)
    z = (torch.rand(N, generator=generator) < 0.3).long()
    y = torch.tensor([0.0, 1.5]).double()[z] + torch.randn(N, generator=generator).double()
    return y, torch.arange(N) < n_seen


def program(gate: DirichletGate, y: Tensor, seen: Tensor, means: Callable[[], Tensor]) -> Callable[..., None]:
    """Return a mixture of unit Gaussians."""

    def model(rows: Tensor | None = None) -> None:
        plate = pyro.plate("data", len(y), subsample=rows, dim=-1)
        own = y[plate.indices]
        z = gate.model(own, plate=plate)
        locations = means()
        with plate, poutine.mask(mask=seen[plate.indices]):  # type: ignore[call-overload]
            pyro.sample("y", dist.Normal(locations[z], 1.0), obs=own)

    return model


def svi_of(model: Callable[..., None], gate: DirichletGate, **arguments: Any) -> ConjugateSVI:
    """Return an SVI whose guide samples nothing."""
    loss = TraceEnum_ELBO(max_plate_nesting=1, strict_enumeration_warning=False)
    return ConjugateSVI(model, lambda *_: None, ClippedAdam({"lr": 0.05}), loss, gates=gate, **arguments)


def exact(y: Tensor, means: Tensor) -> tuple[float, float, float]:
    """Return mean and standard deviation of the first of two weights, and log p(y), by quadrature."""
    share = (torch.arange(20_000).double() + 0.5) / 20_000
    likelihood = dist.Normal(means, 1.0).log_prob(y.unsqueeze(1)).exp()
    log_density = (likelihood[:, 0] * share.unsqueeze(1) + likelihood[:, 1] * (1 - share).unsqueeze(1)).log().sum(1)
    evidence = float(log_density.logsumexp(0)) - float(torch.tensor(20_000.0).double().log())
    weights = log_density.softmax(0)
    mean = float(weights @ share)
    return mean, float((weights @ (share - mean).square()).sqrt()), evidence


@pytest.mark.parametrize("n_seen", [N, 40])
def test_the_posterior_of_two_weights_is_the_exact_one(n_seen: int) -> None:
    """Where the mean field is 37 % too narrow. Objects without an outcome say nothing in either."""
    y, seen = overlapping(n_seen)
    means = torch.tensor([0.0, 1.5]).double()
    mean, deviation, evidence = exact(y[seen], means)
    found = {}
    for collapsed in (False, True):
        gate = DirichletGate(2)
        svi = svi_of(program(gate, y, seen, lambda: means), gate, collapsed=collapsed)
        losses = [svi.step() for _ in range(60)]
        q = dist.Dirichlet(gate.posterior_concentration)
        found[collapsed] = (-losses[-1], float(q.mean[0]), float(q.stddev[0]))
        assert svi.evaluate_loss() == pytest.approx(losses[-1], abs=1e-6)
    assert found[True] == pytest.approx((evidence, mean, deviation), rel=0.01, abs=0.005)
    assert found[False][0] < found[True][0] - 0.3
    assert found[False][2] < 0.7 * deviation


def test_objects_without_an_outcome_say_nothing() -> None:
    """The mean field of all objects is that of those with an outcome, and so is its bound."""
    y, seen = overlapping(40)
    means = torch.tensor([0.0, 1.5]).double()
    gates = DirichletGate(2), DirichletGate(2)
    losses = []
    for gate, own, mask in ((gates[0], y, seen), (gates[1], y[seen], seen[seen])):
        svi = svi_of(program(gate, own, mask, lambda: means), gate)
        losses.append([svi.step() for _ in range(20)][-1])
    assert losses[0] == pytest.approx(losses[1], abs=1e-9)
    torch.testing.assert_close(gates[0].posterior_concentration, gates[1].posterior_concentration)


@pytest.mark.parametrize("n_components", [2, 3, 5])
def test_gradients_are_those_of_the_loss(n_components: int) -> None:
    """By finite differences; the weights are held."""
    y, seen = overlapping()
    start = torch.linspace(-1.0, 2.0, n_components).double()
    gate = DirichletGate(n_components)
    gate.initialise(weights=torch.arange(n_components) + 3.0)
    held: Tensor = start.clone()
    svi = svi_of(program(gate, y, seen, lambda: pyro.param("means", lambda: held.clone())), gate, collapsed=True)
    concentration = gate.posterior_concentration.clone()

    def loss(means: Tensor) -> float:
        pyro.get_param_store()["means"] = means
        gate.posterior_concentration = concentration
        return svi.evaluate_loss()

    svi.evaluate_loss()
    gradients: list[Tensor] = []
    dict(pyro.get_param_store().named_parameters())["means"].register_hook(gradients.append)
    svi.step()
    steps = 1e-5 * torch.eye(n_components).double()
    expected = torch.tensor([(loss(start + step) - loss(start - step)) / 2e-5 for step in steps]).double()
    torch.testing.assert_close(torch.stack(gradients).sum(0), expected, rtol=1e-5, atol=1e-5)


def test_the_posterior_of_three_weights_is_the_exact_one() -> None:
    """By a grid on the simplex, as far as a Dirichlet can be: it has one firmness for all components."""
    generator = torch.Generator().manual_seed(1)
    means = torch.tensor([-2.0, 0.0, 2.0]).double()
    y = means[torch.randint(3, (150,), generator=generator)] + torch.randn(150, generator=generator).double()
    found = []
    for collapsed in (False, True):
        gate = DirichletGate(3)
        svi = svi_of(program(gate, y, y.isfinite(), lambda: means), gate, collapsed=collapsed)
        for _ in range(60):
            svi.step()
        found.append(dist.Dirichlet(gate.posterior_concentration))
    side = (torch.arange(200).double() + 0.5) / 200
    first, second = (grid.flatten() for grid in torch.meshgrid(side, side, indexing="ij"))
    inside = first + second < 1.0
    weights = torch.stack([first, second, 1.0 - first - second], 1)[inside]
    log_density = (weights @ dist.Normal(means, 1.0).log_prob(y.unsqueeze(1)).exp().mT).log().sum(1)
    evidence = float(log_density.logsumexp(0)) - float(inside.sum().double().log())
    mean = log_density.softmax(0) @ weights
    deviation = (log_density.softmax(0) @ (weights - mean).square()).sqrt()
    mean_field, q = found
    torch.testing.assert_close(q.mean, mean, rtol=0, atol=0.01)
    torch.testing.assert_close(q.stddev, deviation, rtol=0.25, atol=0)
    assert (mean_field.stddev / q.stddev).max() < 0.95
    assert evidence - 0.2 < -svi.evaluate_loss() < evidence + 0.01


def test_minibatches_come_to_the_posterior_of_all_data() -> None:
    y, seen = overlapping()
    means = torch.tensor([0.0, 1.5]).double()
    gates = DirichletGate(2), DirichletGate(2)
    whole, batches = (svi_of(program(gate, y, seen, lambda: means), gate, collapsed=True) for gate in gates)
    for _ in range(20):
        whole.step()
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        batches.step(torch.randperm(N, generator=generator)[:50])
    torch.testing.assert_close(gates[1].posterior_concentration, gates[0].posterior_concentration, rtol=0.1, atol=0)


def test_what_cannot_be_collapsed_is_refused() -> None:
    y, seen = overlapping()
    means = torch.tensor([0.0, 1.5]).double()
    for gates in (
        [DirichletGate(2), DirichletGate(2, name="b")],
        [ObjectDirichletGate(2)],
        [DirichletGate(2, batch_shape=(3,))],
    ):
        with pytest.raises(ValueError, match="`collapsed` must have one DirichletGate without a `batch_shape`"):
            svi_of(program(gates[0], y, seen, lambda: means), gates, collapsed=True)  # type: ignore[arg-type]
    gate = DirichletGate(2)

    def coupled() -> None:
        shift = pyro.sample("shift", dist.Bernoulli(torch.tensor(0.5).double()), infer={"enumerate": "parallel"})
        plate = pyro.plate("data", N, dim=-1)
        z = gate.model(y, plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(means[z] + shift, 1.0), obs=y)

    with pytest.raises(ValueError, match="independent given the weights; got 'shift'"):
        svi_of(coupled, gate, collapsed=True).step()


@pytest.mark.parametrize("concentration", [[11.5, 5.2], [1.0, 1.0], [200.0, 3.0], [0.3, 0.7], [3.0, 1.0, 0.5, 10.0]])
def test_expectations_of_log_weights_are_exact(concentration: list[float]) -> None:
    m = torch.tensor(concentration).double()
    nodes = dirichlet_nodes(m)
    f = nodes.log_weights @ torch.arange(1.0, len(m) + 1.0).double() + 5.0
    expected = torch.digamma(m) - torch.digamma(m.sum())
    assert float(nodes.expectation @ f) == pytest.approx(
        float(expected @ torch.arange(1.0, len(m) + 1.0).double()) + 5.0
    )
    torch.testing.assert_close(nodes.regression @ f, torch.arange(1.0, len(m) + 1.0).double())
    mean = nodes.expectation @ nodes.log_weights.exp()
    torch.testing.assert_close(
        mean, m / m.sum(), rtol=0, atol=1e-6 if len(m) == 2 and min(concentration) >= 1 else 0.02
    )


def test_the_bound_rises_where_a_full_step_leads_past_the_optimum() -> None:
    """Two components that overlap: undamped, the steps go to and fro between losses 346 and 415."""
    y, seen = overlapping()
    shares = torch.tensor([0.2, 0.7]).double()
    means = torch.tensor([0.0, 1.5]).double()
    log_likelihood = dist.Normal(means, 1.0).log_prob(y.unsqueeze(1)).exp() * (1.0 - shares)
    log_likelihood = (log_likelihood + dist.Normal(means + 1.0, 1.0).log_prob(y.unsqueeze(1)).exp() * shares).log()
    gate = DirichletGate(2)

    def model() -> None:
        plate = pyro.plate("data", N, dim=-1)
        z = gate.model(y, plate=plate)
        with plate:
            pyro.factor("y", log_likelihood[torch.arange(N), z])

    svi = svi_of(model, gate, collapsed=True)
    losses = torch.tensor([svi.step() for _ in range(40)])
    grid = (torch.arange(20_000).double() + 0.5) / 20_000
    weights = torch.stack([grid, 1.0 - grid])
    log_density = (log_likelihood.exp() @ weights).log().sum(0)
    evidence = float(log_density.logsumexp(0)) - float(torch.tensor(20_000.0).double().log())
    assert (losses.diff() <= 1e-9).all()
    assert -float(losses[-1]) == pytest.approx(evidence, abs=0.01)
    assert float(gate.posterior.mean[0]) == pytest.approx(float(log_density.softmax(0) @ grid), abs=0.001)


@pytest.mark.parametrize("n_known", [30, N])
def test_known_components_are_exact(n_known: int) -> None:
    y, _ = overlapping()
    labels, known = (y > 0.7).long(), torch.arange(N) < n_known
    means = torch.tensor([0.0, 1.5]).double()
    gate = DirichletGate(2)

    def model() -> None:
        plate = pyro.plate("data", N, dim=-1)
        z = gate.model(y, plate=plate, observed=labels, mask=None if n_known == N else known)
        with plate:
            pyro.sample("y", dist.Normal(pyro.param("means", means.clone)[z], 1.0), obs=y)

    svi = svi_of(model, gate, collapsed=True)
    for _ in range(30):
        svi.step()
    likelihood = dist.Normal(pyro.param("means").detach(), 1.0).log_prob(y.unsqueeze(1)).exp()
    one_hot = torch.nn.functional.one_hot(labels, 2).double()
    grid = (torch.arange(20_000).double() + 0.5) / 20_000
    density = torch.where(known.unsqueeze(1), likelihood * one_hot, likelihood) @ torch.stack([grid, 1.0 - grid])
    evidence = float(density.log().sum(0).logsumexp(0)) - float(torch.tensor(20_000.0).double().log())
    assert -svi.evaluate_loss() == pytest.approx(evidence, abs=0.005)


def test_one_component_has_the_likelihood_for_its_bound() -> None:
    y, seen = overlapping()
    gate = DirichletGate(1)
    svi = svi_of(program(gate, y, seen, lambda: torch.zeros(1).double()), gate, collapsed=True)
    expected = -float(dist.Normal(0.0, 1.0).log_prob(y).sum())
    assert [svi.step(), svi.step()] == pytest.approx([expected, expected])


def test_enumeration_that_is_expanded_has_the_same_steps() -> None:
    y, seen = overlapping(40)
    found = []
    for expand in (False, True):
        pyro.clear_param_store()
        gate = DirichletGate(2)
        means = torch.tensor([-1.0, 1.0]).double()
        model = program(gate, y, seen, lambda means=means: pyro.param("means", means.clone))  # type: ignore[misc]
        svi = svi_of(config_enumerate(model, expand=expand), gate, collapsed=True)
        losses = [svi.step() for _ in range(20)]
        found.append(torch.stack([torch.tensor(losses[-2:]).double(), pyro.param("means").detach()]))
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("n_components", [100, 300])
def test_many_components_have_draws_enough(n_components: int) -> None:
    m = torch.full((n_components,), 1e4).double()
    nodes = dirichlet_nodes(m)
    slope = torch.linspace(1.0, 2.0, n_components).double()
    f = nodes.log_weights @ slope
    torch.testing.assert_close(nodes.regression @ f, slope, rtol=1e-5, atol=0)
    expected = torch.digamma(m) - torch.digamma(m.sum())
    assert float(nodes.expectation @ f) == pytest.approx(float(expected @ slope))


@pytest.mark.parametrize("concentration", [0.1, 1.0])
def test_the_bound_of_six_components_is_as_high_as_it_is_said_to_be(concentration: float) -> None:
    """By 40,000 draws of its own; with too few in a step q(π) is fitted to those few."""
    generator = torch.Generator().manual_seed(1)
    centres = torch.tensor([-2.0, 0.0, 2.0]).double()
    y = centres[torch.randint(3, (150,), generator=generator)] + torch.randn(150, generator=generator).double()
    means = torch.linspace(-2.0, 2.0, 6).double()
    likelihood = dist.Normal(means, 1.0).log_prob(y.unsqueeze(1)).exp()
    found = []
    for collapsed in (True, False):
        gate = DirichletGate(6, concentration=concentration)
        svi = svi_of(program(gate, y, y.isfinite(), lambda: means), gate, collapsed=collapsed)
        for _ in range(60):
            svi.step()
        q = torch.distributions.Dirichlet(gate.posterior.concentration)
        torch.manual_seed(0)
        value = (q.sample(torch.Size([40_000])) @ likelihood.mT).log().sum(1).mean()
        prior = torch.distributions.Dirichlet(gate.prior.concentration)
        found.append(float(value - torch.distributions.kl_divergence(q, prior)))
        if collapsed:
            assert -svi.evaluate_loss() == pytest.approx(found[0], abs=0.1)
    assert found[0] > found[1]


@pytest.mark.parametrize("collapsed", [False, True])
def test_responsibilities_of_particles_are_their_mean(collapsed: bool) -> None:
    y, seen = overlapping()
    means = torch.tensor([0.0, 1.5]).double()
    gate = DirichletGate(2)
    model = program(gate, y, seen, lambda: means)
    alone = svi_of(model, gate, collapsed=collapsed).responsibilities()[0]
    loss = TraceEnum_ELBO(max_plate_nesting=1, num_particles=3)
    several = ConjugateSVI(
        model, lambda *_: None, ClippedAdam({"lr": 0.05}), loss, gates=gate, collapsed=collapsed
    ).responsibilities()[0]
    torch.testing.assert_close(several, alone)
