"""SVI with conjugate updates of gates in whole programs."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, TraceEnum_ELBO
from pyro.infer.autoguide import AutoDelta, AutoGuideList, AutoNormal
from pyro.nn import PyroModule
from pyro.ops.indexing import Vindex
from pyro.optim import ClippedAdam
from torch import Tensor, nn

from mixpyro import AutoGate, ConjugateSVI, DirichletGate, NeuralGate, SoftmaxGate, fit
from tests.fitting.test_known_answers import CO2, ETHANOL, problem
from tests.gates.contract import learn
from tests.problems import in_plate, lines, responsibilities
from tests.programs.known_means import GATES, K, Means, N
from tests.pyro_programs import HandWrittenLines

pytestmark = pytest.mark.usefixtures("without_type_checks")


@pytest.mark.parametrize("case", [ETHANOL, CO2], ids=["ethanol", "co2"])
def test_a_hand_written_program_reaches_the_bound_of_a_fit(case: dict[str, Any]) -> None:
    """To 1e-3 nats per thousand objects in 150 steps, from a start more than 5 nats below."""
    mixture, x, y = problem(case, 2)
    result = fit(mixture, x, y, n_restarts=8)
    start = 0.7 * result.responsibilities + 0.3 * responsibilities(len(x), 2)
    gate = DirichletGate(2, concentration=0.5)
    learn(gate, x, start)
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


def test_two_gates_beside_automatic_guides_and_a_gate_trained_by_gradient() -> None:
    """The rest of the program has automatic guides of Pyro."""
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


def test_responsibilities_are_right_on_average_where_the_guide_samples_other_latents() -> None:
    """The update is the natural gradient of a bound whose other latents are sampled."""
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


def test_the_guide_of_the_gate_can_be_used_in_plain_svi_afterwards() -> None:
    program = Means(DirichletGate(K, concentration=0.7))
    svi = program.svi()
    for _ in range(40):
        svi.step()
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    losses = torch.tensor(
        [elbo.loss(program.model, lambda: in_plate(program.gate.guide)(program.x)) for _ in range(200)]
    )
    assert losses.mean() < svi.evaluate_loss() + 4 * losses.std() / 200**0.5


def test_a_step_changes_no_setting_of_pyro_and_no_other_parameter() -> None:
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
    """The program as a module that has the gate as a submodule."""

    def __init__(self, program: Means) -> None:
        super().__init__()
        self.gate, self.program = program.gate, program

    def forward(self) -> None:
        """Run the program."""
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
    """The gate's own state is float64; in plain SVI the guide is the gate's own."""
    gate, (x, y, _) = GATES[name](), (part.float() for part in lines(N, K, n_features=2))
    learn(gate, x, responsibilities(N, K))

    def model() -> None:
        means = pyro.sample("means", dist.Normal(torch.zeros(K), 5.0).to_event(1))
        plate = pyro.plate("objects", N, dim=-1)
        z = gate.model(x, plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(Vindex(means)[..., z], 1.0), obs=y[:, 0])

    def guide() -> None:
        pyro.sample("means", dist.Delta(torch.linspace(-1.0, 1.0, K), event_dim=1))
        in_plate(gate.guide)(x)

    arguments: dict[str, Any] = {"gates": gate} if kind is ConjugateSVI else {}
    one, three = (TraceEnum_ELBO(max_plate_nesting=1, num_particles=n, vectorize_particles=n > 1) for n in (1, 3))
    expected = kind(model, guide, ClippedAdam({}), one, **arguments).evaluate_loss()
    found = kind(model, guide, ClippedAdam({}), three, **arguments).step()
    # A guide that samples weights makes its loss a noisy one.
    assert found == pytest.approx(expected, rel=1e-5 if kind is ConjugateSVI else 0.5)
