"""A digest tells fits apart that are configured differently, and is the same in another process."""

import dataclasses
import datetime
import decimal
import functools
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyro.distributions import Gamma, LogNormal
from torch import nn

from mixpyro import (
    DirichletGate,
    GLMExperts,
    HeterogeneousExperts,
    LinearExperts,
    MixtureOfExperts,
    NeuralGate,
    PointMassExperts,
    SoftmaxGate,
    StickBreakingGate,
    fit,
)
from mixpyro.experts.families import Categorical, Gaussian, NegativeBinomial, Poisson, StudentT
from mixpyro.fitting.configuration import ConfigurationDigest, NotComparableError
from tests.problems import lines

ROOT = Path(__file__).parents[2]
LEVEL = 0.5


def digest(value: object) -> bytes:
    """Return the digest of an object."""
    return ConfigurationDigest().of(value, "value")


class Scaled(nn.Module):
    """A network with a function and containers beside its layers."""

    def __init__(self, function: Callable[[Any], Any], **others: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.fill_(0.5)
        self.function, self.others = function, others

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.function(self.layer(x))
        return found


@dataclasses.dataclass
class Start:
    """A start with an attribute."""

    level: float

    def __call__(self, *given: Any) -> torch.Tensor:
        return torch.full((40, 2), self.level)


def start_at(level: Any) -> Callable[..., torch.Tensor]:
    """Return a start that closes over a number, or another object."""

    def start(*given: Any, factor: float = 1.0) -> torch.Tensor:
        return torch.full((40, 2), level * factor)

    return start


def with_default(number: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function with a default."""

    def function(x: torch.Tensor, factor: float = number) -> torch.Tensor:
        return x * factor

    return function


def times(factor: float, x: torch.Tensor) -> torch.Tensor:
    return x * factor


def frozen(module: nn.Module) -> nn.Module:
    """Return the module with its first parameter frozen."""
    next(module.parameters()).requires_grad_(False)
    return module


def hooked(module: nn.Module, factor: float) -> nn.Module:
    """Return the module with a hook."""
    module.register_forward_hook(lambda own, given, result: result * factor)
    return module


def filled(number: float) -> nn.Module:
    """Return a layer whose parameters are all one number."""
    layer = nn.Linear(1, 2)
    for parameter in layer.parameters():
        nn.init.constant_(parameter, number)
    return layer


# Objects of which each differs from every other one in its row.
DIFFERENT: dict[str, list[Callable[[], Any]]] = {
    "family": [
        lambda: GLMExperts(2, 1, Gaussian()),
        lambda: GLMExperts(2, 1, StudentT()),
        lambda: GLMExperts(2, 1, Poisson()),
        lambda: GLMExperts(2, 1, NegativeBinomial()),
        lambda: GLMExperts(2, 1, Categorical(2)),
        lambda: GLMExperts(2, 1, Poisson(), prior_scale=2.0),
        lambda: GLMExperts(2, 1, Poisson(), exposure=True),
        lambda: GLMExperts(2, 1, Poisson(), shared=[0]),
        lambda: frozen(GLMExperts(2, 1, Poisson())),
    ],
    "prior": [
        lambda: DirichletGate(2),
        lambda: DirichletGate(2, concentration_prior=Gamma(2.0, 1.0)),
        lambda: DirichletGate(2, concentration_prior=Gamma(200.0, 1.0)),
        lambda: DirichletGate(2, concentration_prior=LogNormal(2.0, 1.0)),
        lambda: DirichletGate(2, concentration=2.0),
        lambda: DirichletGate(2, name="other"),
        lambda: StickBreakingGate(2),
        lambda: StickBreakingGate(2, concentration=Gamma(2.0, 1.0)),
    ],
    "members": [
        lambda: HeterogeneousExperts([PointMassExperts(1, 1.0), GLMExperts(1, 1, Poisson())]),
        lambda: HeterogeneousExperts([PointMassExperts(1, 2.0), GLMExperts(1, 1, Poisson())]),
        lambda: HeterogeneousExperts([PointMassExperts(1, 1.0), GLMExperts(1, 1, NegativeBinomial())]),
    ],
    "network": [
        lambda: NeuralGate(2, Scaled(torch.tanh)),
        lambda: NeuralGate(2, Scaled(torch.relu)),
        lambda: NeuralGate(2, Scaled(lambda x: x * 2)),
        lambda: NeuralGate(2, Scaled(lambda x: x * 3)),
        lambda: NeuralGate(2, Scaled(lambda x: x + 3)),
        lambda: NeuralGate(2, Scaled(with_default(3.0))),
        lambda: NeuralGate(2, Scaled(with_default(4.0))),
        lambda: NeuralGate(2, Scaled(functools.partial(times, 3.0))),
        lambda: NeuralGate(2, Scaled(functools.partial(times, 4.0))),
        lambda: NeuralGate(2, Scaled(torch.tanh, scale=torch.ones(1))),
        lambda: NeuralGate(2, Scaled(torch.tanh, scale=torch.zeros(1))),
        lambda: NeuralGate(2, Scaled(torch.tanh, names=["a", {"b": (1, 2)}])),
        lambda: NeuralGate(2, Scaled(torch.tanh, names=["a", {"b": (1, 3)}])),
        lambda: NeuralGate(2, Scaled(torch.tanh, names={"a", "b", "c"})),
        lambda: NeuralGate(2, Scaled(torch.tanh).eval()),
        lambda: NeuralGate(2, frozen(Scaled(torch.tanh))),
        lambda: NeuralGate(2, hooked(Scaled(torch.tanh), 2.0)),
        lambda: NeuralGate(2, hooked(Scaled(torch.tanh), 3.0)),
        lambda: NeuralGate(2, nn.Sequential(Scaled(torch.tanh), nn.Dropout(0.1))),
        lambda: NeuralGate(2, nn.Sequential(Scaled(torch.tanh), nn.Dropout(0.2))),
    ],
    "start": [
        lambda: Start(0.5),
        lambda: Start(0.25),
        lambda: start_at(0.5),
        lambda: start_at(0.25),
        lambda: functools.partial(start_at(0.5), factor=0.5),
        lambda: functools.partial(start_at(0.5), factor=0.25),
        lambda: lambda *given: torch.full((40, 2), LEVEL),
        lambda: Start(0.5).__call__,
    ],
    "compiled": [
        lambda: start_at(np.random.default_rng(1)),
        lambda: start_at(np.random.default_rng(2)),
        lambda: start_at(np.random.RandomState(1)),
        lambda: start_at(datetime.date(2026, 1, 1)),
        lambda: start_at(datetime.date(2026, 1, 2)),
        lambda: start_at(decimal.Decimal("0.5")),
        lambda: start_at(re.compile("a")),
        lambda: start_at(re.compile("b")),
        lambda: start_at(logging.getLogger("a")),
        lambda: start_at(logging.getLogger("b")),
        lambda: NeuralGate(2, torch.jit.script(nn.Sequential(filled(1.0), nn.Tanh()))),
        lambda: NeuralGate(2, torch.jit.script(nn.Sequential(filled(1.0), nn.ReLU()))),
        lambda: NeuralGate(2, torch.jit.script(nn.Sequential(filled(2.0), nn.ReLU()))),
    ],
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", DIFFERENT)
def test_objects_that_differ_have_different_digests(name: str) -> None:
    torch.manual_seed(0)
    digests = [digest(make()) for make in DIFFERENT[name]]
    assert len(set(digests)) == len(digests)
    assert [digest(make()) for make in DIFFERENT[name]] == digests


def test_a_global_that_a_function_reads_is_in_its_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(DIFFERENT["start"][-2]())
    monkeypatch.setattr(sys.modules[__name__], "LEVEL", 0.75)
    assert digest(DIFFERENT["start"][-2]()) != before


def test_a_global_with_the_name_of_an_attribute_is_not_in_a_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a notebook has the result of a fit in a variable when the fit is run again."""

    def start(table: Any) -> Any:
        return table.result

    before = digest(start)
    monkeypatch.setattr(sys.modules[__name__], "result", 1.0, raising=False)
    assert digest(start) == before


SAID = """
from tests.fitting.test_configuration import DIFFERENT, digest
for name, makes in DIFFERENT.items():
    print(name, *(digest(make()).hex() for make in makes))
"""


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_another_process_has_the_same_digests() -> None:
    said = [f"{name} {' '.join(digest(make()).hex() for make in makes)}" for name, makes in DIFFERENT.items()]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SAID],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "123"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == said


def test_cycles_come_to_an_end_and_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    value: list[Any] = [1]
    value.append(value)
    assert digest(value) == digest(value)
    network = Scaled(torch.tanh, lock=threading.Lock())
    with pytest.raises(NotComparableError, match="lock"):
        digest(network)
    x, y, _ = lines(40, 2)
    start, mixture = Start(0.5), MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    start.lock = threading.Lock()  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"`checkpoint` must be None for what cannot be compared .* got starts.*lock"):
        fit(mixture, x, y, checkpoint=tmp_path / "file", starts=[start])
    assert not (tmp_path / "file").exists()


MIXTURES: dict[str, Callable[[], MixtureOfExperts]] = {
    "gamma": lambda: MixtureOfExperts(
        DirichletGate(2, concentration_prior=Gamma(2.0, 1.0)), GLMExperts(2, 1, Poisson())
    ),
    "other gamma": lambda: MixtureOfExperts(
        DirichletGate(2, concentration_prior=Gamma(200.0, 1.0)), GLMExperts(2, 1, Poisson())
    ),
    "negative binomial": lambda: MixtureOfExperts(
        DirichletGate(2, concentration_prior=Gamma(2.0, 1.0)), GLMExperts(2, 1, NegativeBinomial())
    ),
    "softmax": lambda: MixtureOfExperts(SoftmaxGate(2, 1), GLMExperts(2, 1, Poisson())),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_checkpoint_of_another_fit_is_not_taken_up(tmp_path: Path) -> None:
    x, y, _ = lines(40, 2)
    options: dict[str, Any] = {"n_restarts": 1, "max_iterations": 2, "checkpoint": tmp_path / "file"}
    y = y.abs().round()
    fit(MIXTURES["gamma"](), x, y, **options)
    for other in ("other gamma", "negative binomial", "softmax"):
        with pytest.raises(ValueError, match="`checkpoint` must belong to this fit"):
            fit(MIXTURES[other](), x, y, **options)
    with pytest.raises(ValueError, match="`checkpoint` must belong to this fit"):
        fit(MIXTURES["gamma"](), x, y, starts=[Start(0.5)], **options)
