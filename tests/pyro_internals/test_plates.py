"""Gates and experts in Pyro programs of a user: plates, subsamples, names and Pyro's own handlers."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, TraceEnum_ELBO, config_enumerate, infer_discrete
from pyro.infer.reparam import LocScaleReparam
from pyro.ops.indexing import Vindex
from pyro.optim import ClippedAdam
from torch import Tensor, nn

from mixpyro import (
    ConjugateSVI,
    DirichletGate,
    GaussianExperts,
    LinearExperts,
    MixtureOfExperts,
    NeuralExperts,
    NeuralGate,
    ObjectDirichletGate,
    RelevanceLinearExperts,
    SoftmaxGate,
)
from mixpyro.experts import Experts
from mixpyro.experts.families import Gaussian
from mixpyro.gates import Gate
from tests.gates.contract import learn
from tests.problems import in_plate, inputs, lines, responsibilities

K = 3
GATES: dict[str, Callable[[], Gate]] = {
    "dirichlet": lambda: DirichletGate(K),
    "object": lambda: ObjectDirichletGate(K),
    "softmax": lambda: SoftmaxGate(K, 2, prior_scale=1.0),
    "neural": lambda: NeuralGate(K, nn.Linear(2, K).double()),
}


@pytest.fixture(params=GATES)
def gate(request: pytest.FixtureRequest) -> Gate:
    """Make each gate in turn."""
    return GATES[request.param]()


class TwoDataPlates:
    """A program with y [F, N] of F features for N objects, and a calibration sample in a plate of its own.

    Args:
        gate: any gate of K components.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.y, self.x = inputs(8, 4, seed=1).mT, inputs(8, 2)
        self.calibration = inputs(5, 1, seed=2)[:, 0]

    def means(self) -> Tensor:
        return pyro.param("means", lambda: inputs(K, 4, seed=3))

    def __call__(self) -> Tensor:
        noise = pyro.param("noise", lambda: torch.ones(()).double(), constraint=dist.constraints.positive)
        with pyro.plate("calibration", 5, dim=-1):
            pyro.sample("c", dist.Normal(0.0, noise), obs=self.calibration)
        objects = pyro.plate("objects", 8, dim=-1)
        z = self.gate.model(self.x, plate=objects)
        features = torch.arange(4).unsqueeze(-1)
        with pyro.plate("features", 4, dim=-2), objects:
            pyro.sample("y", dist.Normal(Vindex(self.means())[z, features], noise), obs=self.y)
        return z

    def guide(self) -> None:
        in_plate(self.gate.guide)(self.x)


def test_several_data_plates_and_an_outer_one(gate: Gate) -> None:
    """The loss is minus the log evidence, computed by hand at the weights that the guide has drawn."""
    program = TwoDataPlates(gate)
    guide = poutine.trace(program.guide).get_trace()
    loss = TraceEnum_ELBO(max_plate_nesting=2).loss(program, lambda: poutine.replay(program.guide, trace=guide)())
    z = dist.Normal(program.means().mT.unsqueeze(-1), 1.0).log_prob(program.y.unsqueeze(1)).sum(0).mT
    weights = gate.expected_log_weights(program.x)
    if "gate.weights" in guide:
        weights = torch.as_tensor(guide.nodes["gate.weights"]["value"]).log()
    model = poutine.trace(poutine.replay(program, trace=guide)).get_trace()
    guide.compute_log_prob()
    model.compute_log_prob()
    globals_ = [name for name in guide.stochastic_nodes if name != "objects"]
    own = sum(model.nodes[name]["log_prob_sum"] - guide.nodes[name]["log_prob_sum"] for name in globals_)
    by_hand = (weights + z).logsumexp(-1).sum() + own + model.nodes["c"]["log_prob_sum"]
    assert -loss == pytest.approx(by_hand.item(), abs=1e-9)


def test_conjugate_svi_sums_over_an_outer_plate(gate: Gate) -> None:
    program = TwoDataPlates(gate)
    svi = ConjugateSVI(program, program.guide, ClippedAdam({}), TraceEnum_ELBO(max_plate_nesting=2), gates=gate)
    likelihood = dist.Normal(program.means().mT.unsqueeze(-1), 1.0).log_prob(program.y.unsqueeze(1)).sum(0).mT
    log_joint = (
        gate.expected_log_weights(program.x) + likelihood if not isinstance(gate, ObjectDirichletGate) else likelihood
    )
    torch.testing.assert_close(svi.responsibilities()[0], log_joint.softmax(-1))
    with (
        pyro.plate("replicates", 2, dim=-3),
        pytest.raises(ValueError, match=r"plate 'replicates'|inside 'replicates'"),
    ):
        svi.step()


@pytest.mark.parametrize("make", [{"subsample": torch.tensor([5, 2, 0])}, {"subsample_size": 3}])
def test_a_subsample_is_scaled_to_all_objects_and_finds_their_posteriors(make: dict[str, Any]) -> None:
    """The gate draws from the posteriors of the objects in the subsample, and Pyro scales them by N / B."""
    gate, x = ObjectDirichletGate(2, concentration=1.0), inputs(6)
    learn(gate, x, torch.eye(2).double().repeat(3, 1) * 1e6)
    drawn: list[Tensor] = []

    def model() -> None:
        plate = pyro.plate("objects", 6, dim=-1, **make)
        drawn.append(plate.indices)
        gate.model(x[plate.indices], plate=plate)

    def guide() -> None:
        plate = pyro.plate("objects", 6, dim=-1, **make)
        gate.guide(x[plate.indices], plate=plate)

    guide_trace = poutine.trace(guide).get_trace()
    trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace()
    weights = trace.nodes["gate.weights"]
    torch.testing.assert_close(weights["value"], torch.eye(2).double()[drawn[0] % 2], rtol=0, atol=1e-4)
    assert weights["scale"] == 2.0


def test_all_objects_in_another_order_find_their_posteriors() -> None:
    gate, x, order = ObjectDirichletGate(2, concentration=1.0), inputs(4), torch.tensor([3, 0, 1, 2])
    learn(gate, x, torch.eye(2).double().repeat(2, 1) * 1e6)
    plate = pyro.plate("objects", 4, subsample=order, dim=-1)
    drawn = poutine.trace(gate.guide).get_trace(x[order], plate=plate).nodes["gate.weights"]["value"]
    torch.testing.assert_close(drawn, torch.eye(2).double()[order % 2], rtol=0, atol=1e-4)


def test_another_number_of_rows_than_the_plate_has_is_refused(gate: Gate) -> None:
    plate = pyro.plate("objects", 8, subsample_size=5, dim=-1)
    for call in (gate.model, gate.guide):
        with pytest.raises(ValueError, match="`x` must have a row for each of the plate's objects, 5; got 8"):
            call(inputs(8), plate=plate)


def test_a_call_inside_the_plate_is_refused(gate: Gate) -> None:
    plate = pyro.plate("data", 8, dim=-1)
    with plate, pytest.raises(ValueError, match="dim -1 free; got a call inside the plate 'data'"):
        gate.model(inputs(8), plate=plate)


def test_the_guide_refuses_an_outer_plate_over_data() -> None:
    with pyro.plate("replicates", 4, dim=-2):
        for call in (DirichletGate(K).model, DirichletGate(K).guide):
            with pytest.raises(
                ValueError, match=r"inside 'replicates' of 4.*give a DirichletGate `batch_shape=\(4,\)`"
            ):
                in_plate(call)(inputs(8))
        gate = ObjectDirichletGate(K)
        assert in_plate(gate.model)(inputs(8)).shape == (4, 8)
        with pytest.raises(ValueError, match=r"must stand outside the plate 'replicates'.*each of its 4 parts"):
            in_plate(gate.guide)(inputs(8))
    with pyro.plate("num_particles_vectorized", 4, dim=-2):
        in_plate(DirichletGate(K).guide)(inputs(8))


def test_two_gates_of_one_name_are_refused_and_of_two_are_not() -> None:
    x = inputs(4)

    def program(second: str) -> None:
        in_plate(DirichletGate(K).model)(x)
        with poutine.block(hide=["objects"]):
            in_plate(SoftmaxGate(K, 2, name=second).model)(x)

    names = poutine.trace(program).get_trace("other").nodes
    assert {"gate.assignment", "other.assignment"} <= set(names)

    def twice() -> None:
        plate = pyro.plate("objects", 4, dim=-1)
        for _ in range(2):
            DirichletGate(K).model(x, plate=plate)

    with pytest.raises(RuntimeError, match=r"got 'gate.assignment' twice. Give each gate its own `name`"):
        poutine.trace(twice).get_trace()


class Lines:
    """A hand-written mixture of lines: a user's own model and guide.

    Args:
        gate: any gate of K components; it is updated once where it has a posterior.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.x, self.y, _ = lines(12, K, n_features=2)
        learn(gate, self.x, responsibilities(12, K))

    def model(self, x: Tensor, y: Tensor | None) -> None:
        slopes = pyro.sample("slopes", dist.Normal(torch.zeros(K).double(), torch.tensor(2.0).double()).to_event(1))
        plate = pyro.plate("objects", len(x), dim=-1)
        z = self.gate.model(x, plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(Vindex(slopes)[..., z] * x[:, 0], 0.5), obs=None if y is None else y[:, 0])

    def guide(self, x: Tensor, y: Tensor | None) -> None:
        loc = pyro.param("loc", lambda: torch.zeros(K).double())
        pyro.sample("slopes", dist.Normal(loc, 0.1).to_event(1))
        in_plate(self.gate.guide)(x)


def test_a_users_svi_conditions_reparameterises_and_draws_the_assignments(gate: Gate) -> None:
    program = Lines(gate)
    model: Callable[..., Any] = poutine.reparam(program.model, {"slopes": LocScaleReparam(0.0)})
    model = poutine.condition(model, {"slopes_decentered": torch.ones(K).double()})
    svi = SVI(
        model, lambda x, y: in_plate(gate.guide)(x), ClippedAdam({"lr": 0.01}), TraceEnum_ELBO(max_plate_nesting=1)
    )
    assert svi.step(program.x, program.y) > 0
    guide = poutine.trace(program.guide).get_trace(program.x, program.y)
    replayed = poutine.replay(program.model, trace=guide)
    drawn = infer_discrete(config_enumerate(replayed), first_available_dim=-2)
    z = poutine.trace(drawn).get_trace(program.x, program.y).nodes["gate.assignment"]["value"]
    assert z.shape == (12,)
    assert z.max() < K


def test_parallel_predictive_uses_each_draw_of_the_weights_on_all_objects() -> None:
    """With as many draws as objects, where the wrong axis would give no error."""
    mixture, x = MixtureOfExperts(DirichletGate(K), LinearExperts(K, 2, 2)), inputs(12)
    draws = Predictive(mixture.model, num_samples=12)(x)
    latent = {name: draws[name].squeeze(1) for name in ("gate.weights", "experts.coefficients", "experts.precision")}
    trace = Predictive(mixture.model, latent).get_vectorized_trace(x).nodes
    expected = latent["gate.weights"].unsqueeze(1).expand(12, 12, K)
    torch.testing.assert_close(trace["gate.assignment"]["fn"].probs, expected)
    z, draw = trace["gate.assignment"]["value"], torch.arange(12).unsqueeze(1)
    u = torch.cat([torch.ones(12, 1).double(), x], 1)
    mean = torch.einsum("ne,snpe->snp", u, latent["experts.coefficients"][draw, z])
    torch.testing.assert_close(trace["experts.y"]["fn"].base_dist.loc, mean)


def test_parallel_predictive_of_model_and_guide(gate: Gate) -> None:
    mixture = MixtureOfExperts(gate, LinearExperts(K, 2, 2))
    x, y, _ = lines(12, K, n_features=2, n_outputs=2)
    r = responsibilities(12, K)
    learn(mixture.gate, x, r)
    mixture.experts.update(mixture.experts.statistics(x, y, r))
    draws = Predictive(mixture.model, guide=mixture.guide, num_samples=400, parallel=True)(x)["experts.y"]
    assert draws.shape == (400, 12, 2)
    assert ((draws.mean(0) - mixture.predict(x)).abs() < 5 * draws.std(0) / 400**0.5).all()


EXPERTS: dict[str, Callable[[], Experts]] = {
    **{
        f"{covariance} of {n_outputs}": partial(GaussianExperts, K, n_outputs, covariance=covariance)
        for covariance in ("full", "diagonal", "spherical")
        for n_outputs in (1, 2, 3)
    },
    "relevance": lambda: RelevanceLinearExperts(K, 2, 2),
}
WITHOUT_POSTERIOR: dict[str, Callable[[], Experts]] = {
    "neural": lambda: NeuralExperts(K, 2, nn.Linear(2, K), Gaussian(), prior_scale=1.0),
    "float64 neural": lambda: NeuralExperts(K, 2, nn.Linear(2, K).double(), Gaussian(), prior_scale=1.0),
}


@pytest.mark.parametrize("name", EXPERTS)
def test_parallel_predictive_of_experts(name: str) -> None:
    experts = EXPERTS[name]()
    x, y, _ = lines(12, K, n_features=2, n_outputs=experts.n_outputs)
    mixture, r = MixtureOfExperts(DirichletGate(K), experts), responsibilities(12, K)
    learn(mixture.gate, x, r)
    experts.update(experts.statistics(x, y, r))
    draws = Predictive(mixture.model, guide=mixture.guide, num_samples=400, parallel=True)(x)["experts.y"]
    assert draws.shape == (400, 12, experts.n_outputs)
    assert ((draws.mean(0) - mixture.predict(x)).abs() < 5 * draws.std(0) / 400**0.5).all()


@pytest.mark.parametrize("name", [*EXPERTS, *WITHOUT_POSTERIOR])
def test_float32_particles_of_experts_can_be_vectorised(name: str) -> None:
    experts = {**EXPERTS, **WITHOUT_POSTERIOR}[name]()
    x, y, _ = (part.float() for part in lines(12, K, n_features=2, n_outputs=experts.n_outputs))
    mixture = MixtureOfExperts(DirichletGate(K), experts)
    loss = TraceEnum_ELBO(max_plate_nesting=1, num_particles=3, vectorize_particles=True)
    svi = SVI(mixture.model, lambda x, y: mixture.guide(x), ClippedAdam({"lr": 0.01}), loss)
    assert torch.isfinite(torch.tensor(svi.evaluate_loss(x, y)))
