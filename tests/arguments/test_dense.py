"""Tensors that have no numbers to read are refused wherever a tensor is taken."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from mixpyro import (
    DirichletGate,
    GaussianExperts,
    LinearExperts,
    MixtureOfExperts,
    SoftmaxGate,
    arguments,
    fit,
    hyper_models,
)

pytestmark = pytest.mark.usefixtures("bad_arguments")


class Subclass(Tensor):
    """A tensor with a name."""


class WithOperations(Tensor):
    """A tensor of a class that does what it likes with it."""

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Do what would be done."""
        return function(*args, **(kwargs or {}))


def fake(values: Tensor) -> Tensor:
    """Return a tensor as compilers use it, of a shape alone."""
    with FakeTensorMode():
        return torch.ones(values.shape, dtype=values.dtype)


def out_of_vmap(values: Tensor) -> Tensor:
    """Return a tensor that has left the transform it belongs to."""
    found: list[Tensor] = []

    def keep(one: Tensor) -> Tensor:
        found.append(one)
        return one

    torch.func.vmap(keep)(values.unsqueeze(0))
    return found[0]


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "coo": lambda values: values.to_sparse(),
    "csr": lambda values: (values if values.ndim == 2 else values.unsqueeze(1)).to_sparse_csr(),
    "nested": lambda values: torch.nested.nested_tensor(list(values)),
    "jagged": lambda values: torch.nested.nested_tensor(list(values.unsqueeze(-1)), layout=torch.jagged),
    "meta": lambda values: values.to("meta"),
    "quantised": lambda values: torch.quantize_per_tensor(values.float(), 0.1, 0, torch.quint8),
    "fake": fake,
    "with operations": lambda values: values.as_subclass(WithOperations),
    "out of vmap": out_of_vmap,
    "repeated": lambda values: values[:1].expand(10**9, *values.shape[1:]),
    "uninitialised": lambda values: torch.nn.UninitializedParameter(),
    "masked": lambda values: torch.masked.masked_tensor(values, torch.ones_like(values, dtype=torch.bool)),
}


@pytest.fixture(autouse=True)
def prototypes() -> Iterator[None]:
    """PyTorch warns that some of these are prototypes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def rows() -> dict[str, Tensor]:
    """Return arguments of a fit."""
    x = torch.randn(8, 1).double()
    return {
        "x": x,
        "y": x + torch.randn(8, 1),
        "gate_x": x.clone(),
        "weights": torch.ones(8).double(),
        "observed": torch.zeros(8, dtype=torch.long),
        "mask": torch.zeros(8, dtype=torch.bool),
        "groups": torch.arange(8),
    }


def called(mixture: MixtureOfExperts) -> dict[str, Callable[..., object]]:
    """Return calls, each with the argument that it takes a tensor for."""
    x, y = rows()["x"], rows()["y"]
    return {
        "x of a mixture": lambda bad: mixture.log_prob(bad, y),
        "y of a mixture": lambda bad: mixture.assign(x, bad),
        "gate_x of a mixture": lambda bad: mixture.predict(x, gate_x=bad),
        "x of a gate": lambda bad: mixture.gate.expected_log_weights(bad),
        "responsibilities of a gate": lambda bad: DirichletGate(2).statistics(x, bad),
        "x of experts": lambda bad: mixture.experts.expected_log_likelihood(bad, y),
        "y of experts": lambda bad: mixture.experts.expected_log_likelihood(x, bad),
        "Z of an adapter": lambda bad: hyper_models.HyperModelDirichlet(2).E_step(x, y, bad, {}),
        "X of an adapter": lambda bad: hyper_models.HyperModelDirichlet(2).LogPiExpectation(bad, y, {}),
        "concentration": lambda bad: DirichletGate(8, concentration=bad.reshape(-1) if bad.is_meta else bad),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("argument", rows())
def test_a_fit_refuses_tensors_without_numbers(argument: str, kind: str) -> None:
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    given = rows()
    given[argument] = KINDS[kind](given[argument])
    with pytest.raises(TypeError, match=rf"^`{argument}` must "):
        fit(mixture, **given, n_restarts=1, progress=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("call", called(MixtureOfExperts(SoftmaxGate(2, 1), LinearExperts(2, 1))))
def test_methods_refuse_tensors_without_numbers(call: str, kind: str) -> None:
    mixture = MixtureOfExperts(SoftmaxGate(2, 1), LinearExperts(2, 1))
    argument = call.split()[0]
    good = torch.rand(8, 2).double() if argument in ("Z", "responsibilities") else torch.rand(8, 1).double()
    with pytest.raises(TypeError, match=rf"^`{argument}` must "):
        called(mixture)[call](KINDS[kind](good))


@pytest.mark.parametrize("kind", [Subclass, torch.nn.Parameter])
def test_of_a_subclass_the_numbers_count(kind: type) -> None:
    mixture = MixtureOfExperts(DirichletGate(2), GaussianExperts(2, 2))
    y = torch.randn(8, 2).double()
    given = y.clone().as_subclass(Subclass) if kind is Subclass else kind(y.clone(), requires_grad=False)
    found = mixture.log_prob(y[:, :0], given)
    assert type(found) is Tensor
    assert torch.equal(found, mixture.log_prob(y[:, :0], y))


def test_views_have_the_numbers_of_copies() -> None:
    x = torch.randn(6, 1).double()
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    copied = mixture.log_prob(-x, x)
    assert torch.equal(mixture.log_prob(torch._neg_view(x), x), copied)
    assert torch.equal(mixture.log_prob(torch.complex(x, -x).conj().imag.neg().neg(), x), mixture.log_prob(x, x))


def test_dense_tensors_stay_themselves() -> None:
    x = torch.ones(2)
    assert arguments.dense("x", x) is x
