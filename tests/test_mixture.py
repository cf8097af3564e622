"""Gate and experts together."""

from collections.abc import Callable

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive, TraceEnum_ELBO
from torch import Tensor, nn

from mixpyro import (
    DirichletGate,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    NeuralGate,
    ObjectDirichletGate,
)
from mixpyro.gates import Gate
from tests.gates.contract import learn
from tests.problems import in_plate, lines, responsibilities

K = 3
EVERYONE = slice(None)
GATES: dict[str, Callable[[], Gate]] = {
    "dirichlet": lambda: DirichletGate(K, concentration=0.5),
    "object": lambda: ObjectDirichletGate(K, concentration=2.0),
    "marginal": lambda: MarginalObjectDirichletGate(K, mean=[1.0, 2.0, 3.0]),
    "neural": lambda: NeuralGate(K, nn.Linear(2, K).double(), prior_scale=1.0),
}


@pytest.fixture(params=GATES)
def gate(request: pytest.FixtureRequest) -> Gate:
    """Each gate in turn."""
    return GATES[request.param]()


def updated(gate: Gate) -> tuple[MixtureOfExperts, Tensor, Tensor, Tensor]:
    """A mixture right after an update of every part, with its data and responsibilities."""
    mixture = MixtureOfExperts(gate, LinearExperts(K, 2, 2))
    x, y, _ = lines(25, K, n_features=2, n_outputs=2)
    r = responsibilities(25, K)
    learn(mixture.gate, x, r)
    mixture.experts.update(mixture.experts.statistics(x, y, r))
    return mixture, x, y, r


def test_one_evaluation_of_the_joint_elbo_equals_the_closed_form(gate: Gate) -> None:
    """All conjugate posteriors at their optimum: no sample of weights or coefficients makes a difference."""
    mixture, x, y, r = updated(gate)

    def guide(x: Tensor, y: Tensor) -> None:
        mixture.experts.guide(x)
        in_plate(mixture.gate.guide)(x, responsibilities=r, objects=EVERYONE)

    elbo = -TraceEnum_ELBO(max_plate_nesting=1).loss(mixture.model, guide, x, y)
    with torch.no_grad():
        log_joint = mixture.expected_log_joint(x, y, objects=EVERYONE)
        closed = (r * log_joint).sum() - torch.xlogy(r, r).sum() - mixture.kl_divergence()
    assert abs(elbo - closed.item()) < 1e-10


def test_the_elbo_of_model_and_guide_is_the_bound_on_average(gate: Gate) -> None:
    mixture, x, y, _ = updated(gate)
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    programs = mixture.model, mixture.guide
    draws = torch.tensor([-elbo.loss(*programs, x, y, objects=EVERYONE) for _ in range(100)], dtype=torch.float64)
    assert abs(draws.mean() - mixture.bound(x, y, objects=EVERYONE)) < 4 * draws.std() / 100**0.5


def test_the_bound_is_largest_at_the_responsibilities_of_assign(gate: Gate) -> None:
    mixture, x, y, _ = updated(gate)
    log_joint = mixture.expected_log_joint(x, y, objects=EVERYONE).detach()

    def lower_bound(r: Tensor) -> Tensor:
        return (r * log_joint).sum() - torch.xlogy(r, r).sum() - mixture.kl_divergence()

    best = mixture.assign(x, y, objects=EVERYONE).responsibilities
    torch.testing.assert_close(lower_bound(best), mixture.bound(x, y, objects=EVERYONE))
    assert lower_bound(0.9 * best + 0.1 / K) < lower_bound(best)


def test_sites_are_named_from_gate_and_experts(gate: Gate) -> None:
    mixture, x, y, _ = updated(gate)
    sites = poutine.trace(mixture.model).get_trace(x, y).nodes
    names = {name for name, site in sites.items() if site["type"] == "sample"} - {"objects"}
    assert {"gate.assignment", "experts.precision", "experts.coefficients", "experts.y"} <= names
    assert all(name.startswith(("gate.", "experts.")) for name in names)


def test_two_named_mixtures_share_a_program() -> None:
    parts = [MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1), name=name) for name in ("first", "second")]
    x = torch.zeros(4, 1).double()

    def program() -> None:
        for mixture in parts:
            with poutine.block(hide=["objects"]):
                mixture.model(x)

    names = set(poutine.trace(program).get_trace().nodes)
    assert {"first.gate.weights", "second.gate.weights", "first.experts.y", "second.experts.y"} <= names


def test_predictive_draws_of_y_have_the_predicted_mean(gate: Gate) -> None:
    mixture, x, _, _ = updated(gate)
    draws = Predictive(mixture.model, guide=lambda x, y=None: mixture.guide(x, y), num_samples=300)(x)["experts.y"]
    error = draws.std(0) / 300**0.5
    assert ((draws.mean(0) - mixture.predict(x)).abs() < 5 * error).all()


def test_a_vector_y_is_one_output() -> None:
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    x, y, _ = lines(10, 2)
    assert mixture.bound(x, y[:, 0]) == mixture.bound(x, y)


def test_site_names_are_known_before_the_first_call() -> None:
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1), name="m")
    assert mixture.gate.site("weights") == "m.gate.weights"


@pytest.mark.usefixtures("bad_arguments")
def test_bad_inputs_of_a_prediction_are_refused() -> None:
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    for bad, error, message in (
        (torch.zeros(5, 3).double(), ValueError, r"`x` must have shape \[N, 1\].*got \[5, 3\]"),
        (torch.zeros(5, 1, dtype=torch.complex64), TypeError, "`x` must have a floating dtype"),
        (torch.full((5, 1), torch.nan), ValueError, "`x` must be finite"),
    ):
        with pytest.raises(error, match=message):
            mixture.predict(bad)
        with pytest.raises(error, match=message):
            mixture.model(bad)


@pytest.mark.usefixtures("bad_arguments")
def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="`experts` must have as many components as `gate`, 2; got 3"):
        MixtureOfExperts(DirichletGate(2), LinearExperts(3, 1))
    with pytest.raises(TypeError, match="`gate` must be a mixpyro Gate; got LinearExperts"):
        MixtureOfExperts(LinearExperts(2, 1), LinearExperts(2, 1))  # type: ignore[type-var]


@pytest.mark.cuda
def test_data_on_another_device_are_refused() -> None:
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)).cuda()
    x, y, _ = lines(10, 2)
    with pytest.raises(ValueError, match=r"`x` must be on cuda:0, as the model is; got cpu"):
        mixture.bound(x, y)


def test_the_parameter_store_is_the_users(gate: Gate) -> None:
    mixture, x, y, _ = updated(gate)
    mixture.bound(x, y), mixture.predict(x), mixture.assign(x, y)
    assert len(pyro.get_param_store()) == 0


def test_experts_without_inputs_leave_x_to_the_gate() -> None:
    x, y, _ = lines(20, 2, n_features=2, n_outputs=1)
    gate = NeuralGate(2, nn.Linear(2, 2).double())
    shared, apart = MixtureOfExperts(gate, LinearExperts(2, 0)), MixtureOfExperts(gate, LinearExperts(2, 0))
    assert torch.equal(shared.bound(x, y), apart.bound(x[:, :0], y, gate_x=x))
    assert torch.equal(shared.predict(x), apart.predict(x[:, :0], gate_x=x))
    assert torch.equal(shared.log_prob(x, y), apart.log_prob(x[:, :0], y, gate_x=x))
    trace = poutine.trace(shared.model).get_trace(x, y)
    assert torch.as_tensor(trace.nodes["experts.y"]["value"]).shape == y.shape
