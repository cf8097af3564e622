"""Models that are not saved, and files of models that are not loaded."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyro.distributions import (
    FoldedDistribution,
    Gamma,
    Independent,
    LogNormal,
    Normal,
    TransformedDistribution,
    transforms,
)
from torch import Tensor, nn

from mixpyro import (
    DirichletGate,
    GaussianExperts,
    LinearExperts,
    MixtureOfExperts,
    NeuralGate,
    ObjectDirichletGate,
    StickBreakingGate,
    load,
    save,
)
from mixpyro.saving import atomic_file

MODELS: dict[str, Callable[[], Any]] = {
    "gate": lambda: DirichletGate(2),
    "objects": lambda: ObjectDirichletGate(2),
    "sticks": lambda: StickBreakingGate(2),
    "lines": lambda: LinearExperts(2, 1),
    "densities": lambda: GaussianExperts(2, 2),
}
CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "NaN": lambda tensor: torch.full_like(tensor, torch.nan),
    "infinite": lambda tensor: torch.full_like(tensor, torch.inf),
    "negative": lambda tensor: -tensor,
    "zero": torch.zeros_like,
    "truth values": lambda tensor: tensor > 0,
    "integers": lambda tensor: tensor.long(),
    "another shape": lambda tensor: tensor.new_ones(7, 7),
}
WITH_SIGNS = ("mean", "coefficients", "means", "origin")


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", MODELS)
def test_values_that_a_model_cannot_have_are_refused(name: str, change: str, tmp_path: Path) -> None:
    path, model = tmp_path / "file", MODELS[name]()
    save(model, path)
    content = atomic_file.read(path, kind="model", version=3)
    for key, value in content["state"].items():
        has_sign = key.endswith(WITH_SIGNS) or not value.numel()
        if has_sign and change in ("negative", "zero"):
            continue
        if not value.numel() and change in ("NaN", "infinite"):
            continue
        state = {**content["state"], key: CHANGES[change](value)}
        found = {"model": content["model"], "state": state, "frozen": []}
        atomic_file.write(path, found, kind="model", version=3)
        with pytest.raises(ValueError, match=rf"`path` must be a file that mixpyro wrote; got .*{key}") as refused:
            load(path)
        assert "damaged" in str(refused.value)


def test_a_model_with_impossible_values_is_not_saved(tmp_path: Path) -> None:
    save(DirichletGate(2), tmp_path / "file")
    gate = DirichletGate(2)
    gate.posterior_concentration.fill_(torch.nan)
    with pytest.raises(ValueError, match="`part` must have values that a model can have; got one of which `posterior"):
        save(gate, tmp_path / "file")
    assert isinstance(load(tmp_path / "file"), DirichletGate)


def test_priors_within_priors_are_restored(tmp_path: Path) -> None:
    prior = FoldedDistribution(Normal(1.0, 1.0))
    save(DirichletGate(2, concentration_prior=prior), tmp_path / "file")
    value = torch.tensor(1.5).double()
    assert torch.equal(load(tmp_path / "file").concentration_prior.log_prob(value), prior.log_prob(value))


class Own(Gamma):
    """A distribution of a user's own."""


PRIORS: dict[str, Callable[[], Any]] = {
    "transformed": lambda: TransformedDistribution(Normal(0.0, 1.0), [transforms.ExpTransform()]),
    "independent": lambda: Independent(LogNormal(torch.zeros(2), torch.ones(2)), 1),
    "own": lambda: Own(2.0, 1.0),
}


@pytest.mark.parametrize("name", PRIORS)
def test_what_load_could_not_build_is_not_saved(name: str, tmp_path: Path) -> None:
    save(DirichletGate(2), tmp_path / "file")
    before = (tmp_path / "file").read_bytes()
    gate = DirichletGate(2)
    gate.concentration_prior = PRIORS[name]()
    with pytest.raises(TypeError, match=r"`(part|concentration_prior.*)` must be a "):
        save(gate, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == before


def test_a_model_that_its_arguments_do_not_describe_is_not_saved(tmp_path: Path) -> None:
    gate = DirichletGate(2)
    gate.batch_shape = (3,)
    with pytest.raises(TypeError, match="`part` must be a model that can be built from its arguments"):
        save(gate, tmp_path / "file")
    experts = LinearExperts(2, 1)
    experts.n_components = 5
    with pytest.raises(TypeError, match="`part` must be a model that can be built from its arguments"):
        save(experts, tmp_path / "file")


def network() -> nn.Sequential:
    """Return a network with buffers and a frozen parameter."""
    found = nn.Sequential(nn.Linear(1, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)).double()
    found[0].weight.requires_grad_(False)
    return found


def snapshot(module: nn.Module) -> list[Any]:
    """Return what a module is: its tensors, where they are and whether they need gradients."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return [(name, id(one), one.detach().clone().tolist(), one.requires_grad) for name, one in tensors]


@pytest.mark.parametrize("fault", ["shape", "value", "frozen"])
def test_networks_stay_as_they_are_if_a_file_is_refused(fault: str, tmp_path: Path) -> None:
    path, mixture = tmp_path / "file", MixtureOfExperts(NeuralGate(2, network()), LinearExperts(2, 1))
    save(mixture, path)
    content = copy.copy(atomic_file.read(path, kind="model", version=3))
    state = dict(content["state"])
    if fault == "shape":
        state["gate.network.2.bias"] = torch.zeros(5).double()
    elif fault == "value":
        state["experts.posterior_rate"] = -state["experts.posterior_rate"]
    found = {"model": content["model"], "state": state, "frozen": 3 if fault == "frozen" else []}
    atomic_file.write(path, found, kind="model", version=3)
    given = network()
    before, kinds = snapshot(given), [type(module) for module in given.modules()]
    with pytest.raises(ValueError, match=r"`(networks|path)` must be "):
        load(path, networks={"gate.network": given})
    assert snapshot(given) == before
    assert [type(module) for module in given.modules()] == kinds
    own: Any = mixture.gate.network
    before = snapshot(own)
    save(mixture, path)
    assert snapshot(own) == before
    loaded = load(path, networks={"gate.network": given})
    assert loaded.gate.network is given
    assert torch.equal(given[2].bias, own[2].bias)


@pytest.mark.usefixtures("bad_arguments")
def test_arguments_of_other_types_are_refused(tmp_path: Path) -> None:
    save(DirichletGate(2), tmp_path / "file")
    for networks in (3, "a", [nn.Linear(1, 1)], {"a": 3}, {1: nn.Linear(1, 1)}, {"a": "b"}):
        with pytest.raises(TypeError, match="`networks` must "):
            load(tmp_path / "file", networks=networks)  # type: ignore[arg-type]
    for kinds in (3, "a", [3], DirichletGate):
        with pytest.raises(TypeError, match="`kinds` must be a sequence of classes"):
            load(tmp_path / "file", kinds=kinds)  # type: ignore[arg-type]
    for dtype in (torch.int64, torch.complex64, "float32"):
        with pytest.raises(TypeError, match=r"`dtype` must be a (floating )?dtype"):
            load(tmp_path / "file", dtype=dtype)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_written_as_numbers(tmp_path: Path) -> None:
    gate = DirichletGate(2, concentration_prior=Gamma(2.0, 1.0))
    experts = LinearExperts(2, 1, noise_shape=np.float64(2.0), noise_rate=np.float32(0.5).item())
    save(MixtureOfExperts(gate, experts), tmp_path / "file")
    assert load(tmp_path / "file").experts.noise_shape == 2.0
