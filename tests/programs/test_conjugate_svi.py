"""Exact updates of gates inside a user's SVI."""

import copy
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, JitTraceEnum_ELBO, Trace_ELBO, TraceEnum_ELBO
from pyro.infer.autoguide import AutoDelta, AutoGuideList, AutoNormal
from pyro.nn import PyroModule
from pyro.ops.indexing import Vindex
from pyro.optim import ClippedAdam
from torch import Tensor, nn

from mixpyro import (
    AutoGate,
    ConjugateSVI,
    DirichletGate,
    MarginalObjectDirichletGate,
    NeuralGate,
    ObjectDirichletGate,
    RobbinsMonro,
    SoftmaxGate,
    expected_weights,
    fit,
)
from mixpyro.gates import Gate
from tests.fitting.test_known_answers import CO2, ETHANOL, problem
from tests.problems import inputs, lines, responsibilities
from tests.pyro_programs import HandWrittenLines

K, N = 3, 12
GATES: dict[str, Callable[[], Gate]] = {
    "dirichlet": lambda: DirichletGate(K, concentration=0.7),
    "learnt prior": lambda: DirichletGate(K, concentration_prior=dist.Gamma(2.0, 1.0)),
    "object": lambda: ObjectDirichletGate(K, concentration=2.0),
    "learnt mean": lambda: ObjectDirichletGate(K, concentration=2.0, learn_mean=True),
    "marginal": lambda: MarginalObjectDirichletGate(K, mean=[1.0, 2.0, 3.0]),
    "softmax": lambda: SoftmaxGate(K, 2, prior_scale=1.0),
    "neural": lambda: NeuralGate(K, nn.Linear(2, K).double(), prior_scale=1.0),
}


class Means:
    """A program with known means: its bound can be written down."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.x, self.y = inputs(N), inputs(N, 1, seed=5)[:, 0]
        self.means = torch.tensor([-1.0, 0.0, 1.5]).double()
        gate.update(gate.statistics(self.x, responsibilities(N, K)))

    def model(self, rows: Tensor | None = None) -> None:
        plate = pyro.plate("objects", N, subsample=rows, dim=-1)
        z = self.gate.model(self.x[plate.indices], plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(self.means[z], 1.0), obs=self.y[plate.indices])

    def guide(self, rows: Tensor | None = None) -> None:
        """Nothing is left."""

    def svi(self, **arguments: Any) -> ConjugateSVI:
        loss = TraceEnum_ELBO(max_plate_nesting=1)
        return ConjugateSVI(self.model, self.guide, ClippedAdam({"lr": 0.01}), loss, gates=self.gate, **arguments)

    def log_joint(self) -> Tensor:
        likelihood = dist.Normal(self.means, torch.ones(K).double()).log_prob(self.y.unsqueeze(1))
        return (self.gate.expected_log_weights(self.x) + likelihood).detach()


@pytest.fixture(params=GATES)
def program(request: pytest.FixtureRequest) -> Means:
    """The program with each gate in turn."""
    return Means(GATES[request.param]())


def test_the_loss_is_minus_the_bound_and_the_responsibilities_are_exact(program: Means) -> None:
    svi, log_joint = program.svi(), program.log_joint()
    bound = log_joint.logsumexp(-1).sum() - program.gate.kl_divergence()
    assert svi.evaluate_loss() == pytest.approx(-bound.item(), abs=1e-10)
    assert svi.evaluate_loss() == svi.evaluate_loss()
    torch.testing.assert_close(svi.responsibilities()[0], log_joint.softmax(-1), rtol=0, atol=1e-12)
    with expected_weights(program.gate):
        elbo = TraceEnum_ELBO(max_plate_nesting=1)
        marginals = elbo.compute_marginals(program.model, program.guide)["gate.assignment"]
    torch.testing.assert_close(marginals.probs, log_joint.softmax(-1), rtol=0, atol=1e-12)


def test_a_step_is_the_update_of_the_gate(program: Means) -> None:
    expected = GATES_BY_TYPE[type(program.gate)](program)
    svi = program.svi()
    loss = svi.evaluate_loss()
    assert svi.step() == pytest.approx(loss, abs=1e-12)
    for name, value in expected.items():
        torch.testing.assert_close(getattr(program.gate, name), value)
    assert svi.evaluate_loss() < loss + 1e-12


def updated_buffers(program: Means) -> dict[str, Tensor]:
    """What ``update`` makes of the gate with the responsibilities by hand."""
    start = program.gate.posterior_concentration.clone()
    program.gate.update(program.gate.statistics(program.x, program.log_joint().softmax(-1)))
    found = program.gate.posterior_concentration
    program.gate.posterior_concentration = start
    return {"posterior_concentration": found}


GATES_BY_TYPE: dict[type, Callable[[Means], dict[str, Tensor]]] = {
    **dict.fromkeys((DirichletGate, ObjectDirichletGate, MarginalObjectDirichletGate), updated_buffers),
    **dict.fromkeys((SoftmaxGate, NeuralGate), lambda program: {}),
}


@pytest.mark.parametrize("name", ["learnt prior", "learnt mean", "softmax", "neural"])
def test_gradients_of_the_gates_parameters_are_those_of_the_bound(name: str) -> None:
    program = Means(GATES[name]())
    gate = program.gate
    r = program.log_joint().softmax(-1)
    names, parameters = zip(*gate.named_parameters(), strict=True)
    expected = torch.autograd.grad(gate.partial_bound(program.x, r), parameters)
    with expected_weights(gate):
        loss = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(program.model, program.guide)
    for found, wanted in zip(torch.autograd.grad(loss, parameters), expected, strict=True):
        torch.testing.assert_close(found, -wanted)


def test_subsamples_scales_and_particles_leave_the_statistics_right() -> None:
    """Each changes what an object counts in the bound, or how often the program runs."""
    program = Means(DirichletGate(K, concentration=0.7))
    gate, r = program.gate, program.log_joint().softmax(-1)
    seen = torch.tensor([2, 7, 4])
    elbo: dict[str, Any] = {"max_plate_nesting": 1}

    def check(model: Callable[..., None], counts: Tensor, *args: Tensor, **particles: Any) -> None:
        gate.update(gate.statistics(program.x, responsibilities(N, K)))
        loss, optim = TraceEnum_ELBO(**elbo, **particles), ClippedAdam({})
        ConjugateSVI(model, lambda *_: None, optim, loss, gates=gate, step_size=1.0).step(*args)
        torch.testing.assert_close(gate.posterior_concentration, 0.7 + counts)

    check(program.model, 4.0 * r[seen].sum(0), seen)
    check(poutine.scale(program.model, scale=1.0 / N), r.sum(0))
    check(program.model, r.sum(0), num_particles=3)
    check(program.model, r.sum(0), num_particles=3, vectorize_particles=True)


def test_a_per_object_gate_changes_the_objects_at_hand_alone() -> None:
    program = Means(ObjectDirichletGate(K, concentration=2.0))
    before, r = program.gate.posterior_concentration.clone(), program.log_joint().softmax(-1)
    seen = torch.tensor([2, 7, 4])
    program.svi().step(seen)
    after = program.gate.posterior_concentration
    torch.testing.assert_close(after[seen], 2.0 / K + r[seen])
    untouched = torch.ones(N, dtype=torch.bool).index_fill(0, seen, False)
    assert torch.equal(after[untouched], before[untouched])
    fresh = Means(ObjectDirichletGate(K, concentration=2.0))
    fresh.gate.posterior_concentration = fresh.gate.posterior_concentration[:0]
    fresh.svi().step(seen)
    assert len(fresh.gate.posterior_concentration) == N


def test_the_learnt_mean_of_the_marginal_gate_goes_with_the_batches() -> None:
    program = Means(MarginalObjectDirichletGate(K, learn_mean=True))
    r, before = program.log_joint().softmax(-1), program.gate.mean.clone()
    program.svi(step_size=0.25).step(torch.arange(4))
    torch.testing.assert_close(program.gate.mean, torch.lerp(before, r[:4].mean(0), 0.25))


def test_steps_are_full_on_all_data_and_robbins_monro_on_a_part() -> None:
    program = Means(DirichletGate(K, concentration=0.7))
    svi, r, seen = program.svi(), program.log_joint().softmax(-1), torch.arange(3)
    before = program.gate.posterior_concentration.clone()
    svi.step(seen)
    optimum = 0.7 + 4.0 * r[:3].sum(0)
    torch.testing.assert_close(program.gate.posterior_concentration, torch.lerp(before, optimum, 2.0**-0.7))
    r = program.log_joint().softmax(-1)
    svi.step()
    torch.testing.assert_close(program.gate.posterior_concentration, 0.7 + r.sum(0))
    assert [RobbinsMonro(delay=3.0, decay=1.0)(t) for t in (1, 2)] == [0.25, 0.2]


@pytest.mark.parametrize("case", [ETHANOL, CO2], ids=["ethanol", "co2"])
def test_a_hand_written_program_reaches_the_bound_of_a_fit(case: dict[str, Any]) -> None:
    """The known bounds of test_known_answers, to 1e-3 nats a thousand objects, in 150 steps from afar."""
    mixture, x, y = problem(case, 2)
    result = fit(mixture, x, y, n_restarts=8)
    start = 0.7 * result.responsibilities + 0.3 * responsibilities(len(x), 2)
    gate = DirichletGate(2, concentration=0.5)
    gate.update(gate.statistics(x, start))
    precision = {"identity": 1.0, "0.01 identity": 0.01}[case["L0"]]
    program = HandWrittenLines(gate, x, y, start, precision=precision, shape=case["a0"], rate=case["b0"])
    loss = TraceEnum_ELBO(max_plate_nesting=1)
    svi = ConjugateSVI(program.model, program.guide, ClippedAdam({"lr": 0.2, "lrd": 0.97}), loss, gates=gate)
    assert -svi.evaluate_loss() < result.bound - 5.0
    for _ in range(150):
        svi.step()
    assert -svi.evaluate_loss() == pytest.approx(result.bound, abs=1e-6 * len(x))
    torch.testing.assert_close(gate.posterior_concentration, mixture.gate.posterior_concentration, rtol=1e-3, atol=0)


def test_minibatches_come_within_a_thousandth_of_the_full_bound() -> None:
    x, y, z = lines(4000, 2)
    start = nn.functional.one_hot(z, 2).double() * 0.6 + 0.2
    gates = [DirichletGate(2), DirichletGate(2)]
    bounds = []
    for gate, batch_size, n_steps, rate in zip(gates, (4000, 200), (120, 120), (0.2, 0.1), strict=True):
        pyro.clear_param_store()
        program = HandWrittenLines(gate, x, y, start, precision=0.01, shape=1.0, rate=0.01)
        optim, loss = ClippedAdam({"lr": rate, "lrd": 0.97}), TraceEnum_ELBO(max_plate_nesting=1)
        svi = ConjugateSVI(program.model, program.guide, optim, loss, gates=gate)
        for _ in range(n_steps):
            svi.step(torch.randperm(4000)[:batch_size])
        bounds.append(-svi.evaluate_loss())
    assert abs(bounds[1] / bounds[0] - 1.0) < 1e-3
    torch.testing.assert_close(gates[1].weights(x[:1]), gates[0].weights(x[:1]), rtol=0, atol=0.02)


def test_two_gates_automatic_guides_and_a_gate_that_is_not_named() -> None:
    """Two gates share the data and a neural one trains by gradient alone; the rest has guides of Pyro's own."""
    x, y, _ = lines(40, 2, n_features=2)
    first, second = DirichletGate(2, name="first"), SoftmaxGate(2, 2, name="second", prior_scale=1.0)
    third = NeuralGate(2, nn.Linear(2, 2).double(), name="third")

    def model(y: Tensor, x: Tensor) -> None:
        means = pyro.sample("means", dist.Normal(torch.zeros(2, 2, 2).double(), 3.0).to_event(3))
        plate = pyro.plate("data", len(x), dim=-1)
        i, j, k = (gate.model(x, plate=plate) for gate in (first, second, third))
        with plate:
            pyro.sample("y", dist.Normal(means[i, j, k], 0.5), obs=y)

    hidden = [site for gate in (first, second, third) for site in gate.latent_sites]
    guide = AutoGuideList(model)
    guide.append(AutoDelta(poutine.block(model, hide=hidden)))
    guide.append(AutoGate(model, first))
    optim, loss = ClippedAdam({"lr": 0.05}), TraceEnum_ELBO(max_plate_nesting=1)
    svi = ConjugateSVI(model, guide, optim, loss, gates=[first, second])
    before = third.network.weight.detach().clone()  # type: ignore[operator]
    losses = [svi.step(y[:, 0], x) for _ in range(80)]
    assert losses[-1] < losses[0] - 10.0
    assert svi.evaluate_loss(y[:, 0], x) == svi.evaluate_loss(y[:, 0], x)
    assert not torch.equal(third.network.weight, before)  # type: ignore[arg-type]
    r = svi.responsibilities(y[:, 0], x)
    torch.testing.assert_close(first.posterior_concentration, 1.0 + r[0].sum(0), rtol=0.05, atol=0)
    assert guide(y[:, 0], x).keys() == {"means", "first.weights"}


def test_random_latents_of_the_guide_leave_the_responsibilities_right_on_average() -> None:
    """The update is the natural gradient of the bound whose other latents are sampled."""
    x, y, _ = lines(40, 2)
    gate = DirichletGate(2)

    def model() -> None:
        means = pyro.sample("means", dist.Normal(torch.zeros(2).double(), 3.0).to_event(1))
        plate = pyro.plate("objects", len(x), dim=-1)
        z = gate.model(x, plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(means[z], 0.5), obs=y[:, 0])

    guide = AutoNormal(poutine.block(model, hide=gate.latent_sites), init_scale=0.3)
    optim, loss = ClippedAdam({"lr": 0.0}), TraceEnum_ELBO(max_plate_nesting=1)
    svi = ConjugateSVI(model, guide, optim, loss, gates=gate, step_size=lambda t: 1.0 / t)
    for _ in range(100):
        svi.step()
    means = [guide()["means"].detach() for _ in range(1000)]
    log_weights = gate.expected_log_weights(x[:1])
    normal = dist.Normal(torch.stack(means).unsqueeze(1), torch.tensor(0.5).double())
    counts = (log_weights + normal.log_prob(y.expand(-1, 2))).softmax(-1).sum(1)
    torch.testing.assert_close(gate.posterior_concentration, 1.0 + counts.mean(0), rtol=0.1, atol=0)


def test_the_gate_serves_plain_svi_afterwards() -> None:
    program = Means(DirichletGate(K, concentration=0.7))
    svi = program.svi()
    for _ in range(40):
        svi.step()
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    losses = torch.tensor([elbo.loss(program.model, lambda: program.gate.guide(program.x)) for _ in range(200)])
    assert losses.mean() < svi.evaluate_loss() + 4 * losses.std() / 200**0.5


def test_the_users_pyro_is_left_as_it_was() -> None:
    """But for the parameters of the program itself."""
    pyro.param("theirs", torch.ones(2))
    program = Means(NeuralGate(K, nn.Linear(2, K).double()))
    before = pyro.settings.get()
    state = torch.get_rng_state()
    program.svi().step()
    assert pyro.settings.get() == before
    assert torch.equal(torch.get_rng_state(), state)
    assert set(pyro.get_param_store()) == {"theirs", "gate.network$$$weight", "gate.network$$$bias"}
    assert all(p.grad is None or not p.grad.any() for p in program.gate.parameters())


class Whole(PyroModule):
    """A program as a module that the gate is a part of."""

    def __init__(self, program: Means) -> None:
        super().__init__()
        self.gate, self.program = program.gate, program

    def forward(self) -> None:
        self.program.model()


def test_module_local_parameters_give_the_same_steps() -> None:
    found = []
    for local in (False, True):
        torch.manual_seed(0)
        pyro.clear_param_store()
        with pyro.settings.context(module_local_params=local):
            program = Means(NeuralGate(K, nn.Linear(2, K).double()))
            whole, loss = Whole(program), TraceEnum_ELBO(max_plate_nesting=1)
            svi = ConjugateSVI(whole, program.guide, ClippedAdam({"lr": 0.1}), loss, gates=program.gate)
            found.append([svi.step() for _ in range(5)])
            assert len(pyro.get_param_store()) == (0 if local else 2)
    assert found[0] == found[1]
    assert found[0][-1] < found[0][0]


def test_float32_programs_work() -> None:
    gate = DirichletGate(2)
    x, y, _ = (part.float() for part in lines(30, 2))

    def model() -> None:
        means = pyro.param("means", lambda: torch.tensor([-1.0, 1.0]))
        plate = pyro.plate("objects", len(x), dim=-1)
        z = gate.model(x, plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(means[z], 0.5), obs=y[:, 0])

    svi = ConjugateSVI(model, lambda: None, ClippedAdam({"lr": 0.1}), gates=[gate])
    losses = [svi.step() for _ in range(10)]
    assert losses[-1] < losses[0]
    assert gate.posterior_concentration.sum().item() == pytest.approx(32.0, abs=1e-4)


@pytest.mark.parametrize("kind", [ConjugateSVI, SVI])
@pytest.mark.parametrize("name", GATES)
def test_particles_of_float32_programs_may_be_vectorised(name: str, kind: type[SVI]) -> None:
    """Whatever the gate keeps in float64; for plain SVI with the gate's own guide."""
    gate, (x, y, _) = GATES[name](), (part.float() for part in lines(N, K, n_features=2))
    gate.update(gate.statistics(x, responsibilities(N, K)))

    def model() -> None:
        means = pyro.sample("means", dist.Normal(torch.zeros(K), 5.0).to_event(1))
        plate = pyro.plate("objects", N, dim=-1)
        z = gate.model(x, plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(Vindex(means)[..., z], 1.0), obs=y[:, 0])

    def guide() -> None:
        pyro.sample("means", dist.Delta(torch.linspace(-1.0, 1.0, K), event_dim=1))
        gate.guide(x)

    arguments: dict[str, Any] = {"gates": gate} if kind is ConjugateSVI else {}
    one, three = (TraceEnum_ELBO(max_plate_nesting=1, num_particles=n, vectorize_particles=n > 1) for n in (1, 3))
    expected = kind(model, guide, ClippedAdam({}), one, **arguments).evaluate_loss()
    found = kind(model, guide, ClippedAdam({}), three, **arguments).step()
    # A guide that samples weights makes its loss a noisy one.
    assert found == pytest.approx(expected, rel=1e-5 if kind is ConjugateSVI else 0.5)


def test_infinite_likelihoods_change_nothing() -> None:
    program = Means(DirichletGate(K))
    before = program.gate.posterior_concentration.clone()
    program.y = program.y * torch.nan
    svi = program.svi()
    with pyro.validation_enabled(True), pytest.raises(ValueError, match=r"y|finite"):
        svi.step()
    assert torch.equal(program.gate.posterior_concentration, before)
    assert svi.n_steps == 0


@pytest.mark.filterwarnings("ignore:Encountered")
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_without_validation_an_infinite_loss_changes_nothing_either(value: float) -> None:
    program = Means(DirichletGate(K, concentration_prior=dist.Gamma(2.0, 1.0)))
    svi = program.svi()
    svi.step()
    before = copy.deepcopy(program.gate.state_dict())
    program.y[0] = value
    with pyro.validation_enabled(False), pytest.raises(ValueError, match=r"must give a finite loss; got (nan|inf)"):
        svi.step()
    torch.testing.assert_close(program.gate.state_dict(), before, rtol=0, atol=0)
    assert svi.n_steps == 1


@pytest.mark.parametrize(
    ("name", "site"), [("dirichlet", "weights"), ("object", "weights"), ("softmax", "coefficients")]
)
@pytest.mark.parametrize("handler", [poutine.condition, poutine.do])
def test_given_weights_are_refused(name: str, site: str, handler: Callable[..., Any]) -> None:
    program = Means(GATES[name]())
    before = copy.deepcopy(program.gate.state_dict())
    program.model = handler(program.model, data={f"gate.{site}": torch.ones(K).double() / K})  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=f"whose weights are given; got a value for 'gate.{site}'"):
        program.svi().step()
    torch.testing.assert_close(program.gate.state_dict(), before, rtol=0, atol=0)


def test_given_assignments_are_the_responsibilities() -> None:
    program, z = Means(DirichletGate(K, concentration=0.7)), torch.arange(N) % K
    program.model = poutine.condition(program.model, data={"gate.assignment": z})  # type: ignore[method-assign]
    program.svi().step()
    torch.testing.assert_close(program.gate.posterior_concentration, torch.full((K,), 0.7 + N / K).double())


@pytest.mark.parametrize("site", ["weights", "assignment"])
def test_a_guide_of_a_gates_sites_is_refused(site: str) -> None:
    program = Means(DirichletGate(K))
    before = program.gate.posterior_concentration.clone()

    def guide() -> None:
        if site == "weights":
            pyro.sample("gate.weights", dist.Dirichlet(torch.ones(K).double()))
        else:
            program.gate.guide(program.x, responsibilities=responsibilities(N, K))

    program.guide = guide  # type: ignore[method-assign, assignment]
    with pytest.raises(ValueError, match=f"`guide` must leave the sites of `gates` to the gates; got 'gate.{site}'"):
        program.svi().step()
    assert torch.equal(program.gate.posterior_concentration, before)


@pytest.mark.usefixtures("bad_arguments")
def test_what_it_cannot_use_is_refused() -> None:
    program, optim = Means(DirichletGate(K)), ClippedAdam({})
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    for loss in (Trace_ELBO(), JitTraceEnum_ELBO()):
        with pytest.raises(TypeError, match=f"`loss` must be a TraceEnum_ELBO.*got {type(loss).__name__}"):
            ConjugateSVI(program.model, program.guide, optim, loss, gates=program.gate)  # type: ignore[arg-type]
    for gates in ([], None, [program.model]):
        with pytest.raises(TypeError, match="`gates` must be a mixpyro Gate or a sequence"):
            ConjugateSVI(program.model, program.guide, optim, elbo, gates=gates)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`gates` must differ"):
        program.svi().__init__(program.model, program.guide, optim, elbo, gates=[program.gate] * 2)  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"`optim` must be an optimiser of pyro.optim; got str"):
        ConjugateSVI(program.model, program.guide, "adam", elbo, gates=program.gate)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`step_size` must be in \(0, 1\]; got 2"):
        program.svi(step_size=2.0)
    with pytest.raises(ValueError, match=r"`decay` must be above 0.5 and at most 1; got 0.4"):
        RobbinsMonro(decay=0.4)
    program = Means(SoftmaxGate(K, 2))
    stranger = ConjugateSVI(program.model, program.guide, optim, elbo, gates=DirichletGate(K, name="other"))
    with pytest.raises(RuntimeError, match=r"call the model of every gate.*got no evidence on 'other.assignment'"):
        stranger.step()


def test_it_is_an_svi() -> None:
    assert isinstance(Means(DirichletGate(K)).svi(), SVI)
