"""Posteriors of gates in Pyro's parameter store."""

import copy
from collections.abc import Callable
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor

from mixpyro import ConjugateSVI, DirichletGate, MarginalObjectDirichletGate, ObjectDirichletGate
from mixpyro.gates.conjugate import ConjugateGate

pytestmark = pytest.mark.usefixtures("without_type_checks")

GATES: dict[str, Callable[[], ConjugateGate]] = {
    "dirichlet": lambda: DirichletGate(2),
    "sparse": lambda: DirichletGate(2, concentration=0.1),
    "float32": lambda: DirichletGate(2, dtype=torch.float32),
    "object": lambda: ObjectDirichletGate(2, concentration=3.0),
    "marginal": lambda: MarginalObjectDirichletGate(2, learn_mean=True),
}
Y = torch.cat([torch.zeros(30), torch.ones(10)]).double() + 0.1 * torch.arange(40).double().sin()


def svi_of(gate: ConjugateGate) -> ConjugateSVI:
    """Two unit Gaussians with means that are parameters."""

    def model(rows: Tensor | None = None) -> None:
        means = pyro.param("means", lambda: torch.tensor([-0.5, 1.5]).double())
        plate = pyro.plate("objects", len(Y), subsample=rows, dim=-1)
        z = gate.model(Y[plate.indices], plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(means[z], 0.5), obs=Y[plate.indices])

    return ConjugateSVI(
        model, lambda *_: None, ClippedAdam({"lr": 0.01}), TraceEnum_ELBO(max_plate_nesting=1), gates=gate
    )


@pytest.mark.parametrize("name", GATES)
def test_a_store_comes_back_with_its_gates(name: str, tmp_path: Path) -> None:
    svi = svi_of(GATES[name]())
    for _ in range(5):
        svi.step()
    loss = svi.evaluate_loss()
    pyro.get_param_store().save(str(tmp_path / "store"))
    pyro.clear_param_store()
    other = svi_of(GATES[name]())
    pyro.get_param_store().load(str(tmp_path / "store"))
    assert other.evaluate_loss() == loss
    assert other.n_steps == 5
    assert other.step() == loss
    for one, same in zip(other.gates[0].buffers(), svi.gates[0].buffers(), strict=True):
        assert one.shape == same.shape


@pytest.mark.parametrize("name", GATES)
def test_a_cleared_store_starts_its_gates_anew(name: str) -> None:
    svi = svi_of(GATES[name]())
    losses = [svi.step() for _ in range(3)]
    pyro.clear_param_store()
    assert [svi.step() for _ in range(3)] == losses
    assert svi.n_steps == 3


def test_another_gate_of_the_name_in_this_process_is_left_alone() -> None:
    """Two programs one beside the other, as before posteriors were stored."""
    first, second = svi_of(DirichletGate(2)), svi_of(DirichletGate(2, concentration=5.0))
    alone = [svi_of(DirichletGate(2)).evaluate_loss()]
    first.step()
    second.step()
    counts = first.gates[0].posterior.concentration.clone()
    assert second.gates[0].posterior.concentration.sum() == pytest.approx(50.0)
    assert counts.sum() == pytest.approx(42.0)
    first.evaluate_loss()
    assert torch.equal(first.gates[0].posterior.concentration, counts)
    assert len(alone) == 1


def test_what_was_set_by_hand_stays() -> None:
    gate = DirichletGate(2)
    svi = svi_of(gate)
    svi.step()
    gate.update(gate.statistics(torch.zeros(40, 0).double(), torch.full((40, 2), 0.5).double()))
    svi.evaluate_loss()
    assert gate.posterior_concentration.tolist() == [21.0, 21.0]
    fitted = DirichletGate(2)
    fitted.update(fitted.statistics(torch.zeros(40, 0).double(), torch.full((40, 2), 0.5).double()))
    pyro.clear_param_store()
    svi_of(fitted).evaluate_loss()
    assert fitted.posterior_concentration.tolist() == [21.0, 21.0]


def test_an_older_store_that_is_loaded_again_is_taken(tmp_path: Path) -> None:
    svi = svi_of(DirichletGate(2))
    svi.step()
    pyro.get_param_store().save(str(tmp_path / "store"))
    loss = svi.evaluate_loss()
    for _ in range(5):
        svi.step()
    assert svi.evaluate_loss() != loss
    pyro.get_param_store().load(str(tmp_path / "store"))
    assert svi.evaluate_loss() == loss
    assert svi.n_steps == 1


def test_a_stored_posterior_of_another_shape_is_refused(tmp_path: Path) -> None:
    svi_of(DirichletGate(2)).step()
    pyro.get_param_store().save(str(tmp_path / "store"))
    pyro.get_param_store().load(str(tmp_path / "store"))
    with pytest.raises(
        ValueError, match=r"'gate.posterior_concentration' in Pyro's parameter store must have shape \[3\]"
    ):
        svi_of(DirichletGate(3)).evaluate_loss()


@pytest.mark.parametrize("name", ["dirichlet", "float32", "object"])
def test_a_state_dict_that_is_loaded_stays(name: str) -> None:
    """``load_state_dict`` copies into the buffers that the gate already has."""
    svi = svi_of(GATES[name]())
    svi.step()
    loss, saved = svi.evaluate_loss(), copy.deepcopy(svi.gates[0].state_dict())
    for _ in range(5):
        svi.step()
    means = torch.tensor([-0.5, 1.5]).double()
    pyro.get_param_store()["means"] = means
    svi.gates[0].load_state_dict(saved)
    pyro.get_param_store()["means"] = means + 0.01
    svi.evaluate_loss()
    for key, value in svi.gates[0].state_dict().items():
        assert torch.equal(value, saved[key])
    assert loss == pytest.approx(svi.evaluate_loss(), abs=2.0)


def test_a_change_in_place_stays() -> None:
    svi = svi_of(DirichletGate(2))
    svi.step()
    svi.gates[0].posterior_concentration.copy_(torch.tensor([7.0, 8.0]))
    svi.evaluate_loss()
    assert svi.gates[0].posterior_concentration.tolist() == [7.0, 8.0]


@pytest.mark.parametrize("name", GATES)
def test_a_store_is_taken_after_a_first_look_at_the_loss(name: str) -> None:
    """Also where a sparse prior has given the gate a start of its own."""
    svi = svi_of(GATES[name]())
    for _ in range(3):
        svi.step()
    loss, state = svi.evaluate_loss(), copy.deepcopy(pyro.get_param_store().get_state())
    pyro.clear_param_store()
    other = svi_of(GATES[name]())
    other.evaluate_loss()
    pyro.get_param_store().set_state(state)
    assert other.evaluate_loss() == loss


@pytest.mark.parametrize("name", GATES)
def test_a_scope_of_the_store_leaves_the_gate_as_it_was(name: str) -> None:
    svi = svi_of(GATES[name]())
    for _ in range(3):
        svi.step()
    loss = svi.evaluate_loss()
    with pyro.get_param_store().scope():
        assert svi.evaluate_loss() != loss
    assert svi.evaluate_loss() == loss
