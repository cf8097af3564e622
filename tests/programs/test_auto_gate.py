"""The guide of a gate beside automatic guides of Pyro."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, TraceEnum_ELBO
from pyro.infer.autoguide import AutoDelta, AutoGuideList, AutoNormal
from pyro.optim import ClippedAdam
from torch import Tensor, nn

from mixpyro import (
    AutoGate,
    ConjugateSVI,
    DirichletGate,
    NeuralGate,
    ObjectDirichletGate,
    SoftmaxGate,
    TreeGate,
    expected_weights,
)
from mixpyro.gates import Gate
from tests.gates.contract import learn
from tests.problems import inputs, lines, responsibilities

pytestmark = pytest.mark.usefixtures("without_type_checks")

K = 3
GATES: dict[str, Callable[[], Gate]] = {
    "dirichlet": lambda: DirichletGate(K),
    "object": lambda: ObjectDirichletGate(K),
    "softmax": lambda: SoftmaxGate(K, 2, prior_scale=1.0),
    "tree": lambda: TreeGate(K, 2),
    "neural": lambda: NeuralGate(K, nn.Linear(2, K).double()),
}


def program(gate: Gate) -> Callable[[Tensor, Tensor], None]:
    """Make a model of K means, with arguments in another order than the gate's."""

    def model(y: Tensor, x: Tensor) -> None:
        means = pyro.sample("means", dist.Normal(torch.zeros(K).double(), 5.0).to_event(1))
        plate = pyro.plate("data", len(x), dim=-1)
        z = gate.model(x, plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(means[z], 1.0), obs=y)

    return model


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("rest", [AutoNormal, AutoDelta])
def test_a_list_of_guides_takes_the_gate_and_the_models_arguments(name: str, rest: type) -> None:
    gate, (x, y, _) = GATES[name](), lines(10, K, n_features=2)
    learn(gate, x, responsibilities(10, K))
    model = program(gate)
    guide = AutoGuideList(model)
    guide.append(rest(poutine.block(model, hide=gate.latent_sites)))
    guide.append(AutoGate(model, gate))
    loss = TraceEnum_ELBO(max_plate_nesting=1)
    if name in ("dirichlet", "object"):
        with pytest.raises(RuntimeError, match=r"'gate.weights' must be trained by ConjugateSVI.*got plain SVI"):
            SVI(model, guide, ClippedAdam({"lr": 0.01}), loss).step(y[:, 0], x)
    svi = ConjugateSVI(model, guide, ClippedAdam({"lr": 0.01}), loss, gates=gate)
    first = [svi.step(y[:, 0], x) for _ in range(3)]
    assert all(torch.isfinite(torch.tensor(first)))
    sampled = guide(y[:, 0], x)
    assert set(sampled) == {"means", *gate.latent_sites} - {"gate.assignment"}
    median = guide.median(y[:, 0], x)
    assert set(median) == set(sampled)
    if name == "object":
        torch.testing.assert_close(median["gate.weights"], gate.weights(x, objects=slice(None)))
    assert gate.site("weights") == "gate.weights"


def pickled(guide: AutoGuideList) -> AutoGuideList:
    """Save a guide to bytes and load it again."""
    return pickle.loads(pickle.dumps(guide))


@pytest.mark.parametrize(("name", "copied"), [*((name, pickled) for name in GATES), ("dirichlet", copy.deepcopy)])
def test_a_list_and_its_copy_sample_the_same(name: str, copied: Callable[[AutoGuideList], AutoGuideList]) -> None:
    gate, (x, y, _) = GATES[name](), lines(10, K, n_features=2)
    learn(gate, x, responsibilities(10, K))
    model = program(gate)
    guide = AutoGuideList(model)
    guide.append(AutoNormal(poutine.block(model, hide=gate.latent_sites)))
    guide.append(AutoGate(model, gate))
    guide(y[:, 0], x)
    draws, others = [], copied(guide)
    for one in (guide, others):
        torch.manual_seed(1)
        draws.append(one(y[:, 0], x))
        pyro.clear_param_store()  # The copy has parameters of its own with the same names.
    torch.testing.assert_close(draws[0], draws[1])
    assert set(draws[0]) == {"means", *gate.latent_sites} - {"gate.assignment"}


def test_inside_expected_weights_it_samples_nothing() -> None:
    """The list can be used outside afterwards."""
    gate, (x, y, _) = DirichletGate(K), lines(10, K, n_features=2)
    model = program(gate)
    guide = AutoGuideList(model)
    guide.append(AutoNormal(poutine.block(model, hide=gate.latent_sites)))
    guide.append(AutoGate(model, gate))
    with expected_weights(gate):
        assert set(guide(y[:, 0], x)) == {"means"}
    assert set(guide(y[:, 0], x)) == {"means", "gate.weights"}


@pytest.mark.parametrize("with_plates", [True, False])
def test_a_models_own_subsample_needs_create_plates(with_plates: bool) -> None:
    gate, x = ObjectDirichletGate(2, concentration=1.0), inputs(6)
    learn(gate, x, torch.eye(2).double().repeat(3, 1) * 1e6)

    def plate(rows: Tensor) -> pyro.plate:
        return pyro.plate("objects", 6, subsample=rows, dim=-1)

    def model(rows: Tensor) -> None:
        gate.model(x[rows], plate=plate(rows))

    create: dict[str, Any] = {"create_plates": plate} if with_plates else {}
    guide = AutoGuideList(model, **create)
    guide.append(AutoGate(model, gate))
    rows = torch.tensor([5, 0, 3])
    if not with_plates:
        with pytest.raises(RuntimeError, match=r"`create_plates` must be given.*'objects'"):
            guide(rows)
        return
    torch.testing.assert_close(guide(rows)["gate.weights"], torch.eye(2).double()[rows % 2], rtol=0, atol=1e-4)


@pytest.mark.usefixtures("bad_arguments")
def test_a_gate_of_another_type_or_not_in_the_model_is_refused() -> None:
    with pytest.raises(TypeError, match="`gate` must be a mixpyro Gate; got Linear"):
        AutoGate(lambda: None, nn.Linear(1, 1))  # type: ignore[arg-type]
    guide = AutoGate(program(DirichletGate(K)), DirichletGate(K, name="other"))
    with pytest.raises(RuntimeError, match=r"must call the gate's model; got no site 'other.assignment'"):
        guide(inputs(4)[:, 0], inputs(4))


def test_weights_of_parts_stand_in_their_plates() -> None:
    """The ELBO of the model under the guide is that of weights sampled by hand; states of a chain have no plate."""
    y, gate = inputs(4, 6), DirichletGate(2, batch_shape=(6,))
    gate.initialise(weights=[0.2, 0.8])

    def model() -> None:
        with pyro.plate("groups", 6, dim=-1):
            objects = pyro.plate("objects", 4, dim=-2)
            z = gate.model(y, plate=objects)
            with objects:
                pyro.sample("y", dist.Normal(z.double(), 1.0), obs=y)

    guide = AutoGuideList(model)
    guide.append(AutoGate(model, gate))
    site = poutine.trace(guide).get_trace().nodes["gate.weights"]
    assert [frame.name for frame in site["cond_indep_stack"]] == ["groups"]
    assert torch.as_tensor(site["value"]).shape == (6, 2)
    loss = TraceEnum_ELBO(max_plate_nesting=2).loss(model, guide)
    assert torch.isfinite(torch.tensor(loss))

    rows = DirichletGate(2, batch_shape=(2,), name="rows")

    def chain(y: Tensor) -> None:
        weights = rows.sample_weights(y)
        with pyro.plate("sequences", len(y), dim=-1):
            z = torch.zeros(len(y)).long()
            for t in pyro.markov(range(y.shape[1])):
                z = weights.assign(f"z_{t}", parent=z)

    guide = AutoGuideList(chain)
    guide.append(AutoGate(chain, rows))
    assert guide(y)["rows.weights"].shape == (2, 2)
    with pytest.raises(RuntimeError, match=r"must call the gate's model; got no site 'other.assignment'"):
        AutoGate(chain, DirichletGate(2, name="other"))(y)
