"""Restarts are independent, and no start is run twice."""

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn

from mixpyro import DirichletGate, GLMExperts, LinearExperts, MixtureOfExperts, NeuralExperts, SoftmaxGate, fit
from mixpyro.experts import Experts
from mixpyro.experts.families import Gaussian, Poisson
from mixpyro.fitting.candidates import signature
from mixpyro.fitting.starts import Start, one_hot, random_assignments
from mixpyro.shapes import Inputs, Outputs
from tests.problems import lines, responsibilities


def noted(start: Start, calls: list[str], name: str) -> Start:
    """A start that notes when it is drawn."""

    def drawn(mixture: MixtureOfExperts, x: Inputs, y: Outputs, generator: Generator) -> Tensor:
        calls.append(name)
        return start(mixture, x, y, generator)

    return drawn


def by_sign(mixture: MixtureOfExperts, x: Inputs, y: Outputs, generator: Generator) -> Tensor:
    """The same each time, its components in random order."""
    order = torch.randperm(2, generator=generator)
    return one_hot(order[(y[:, 0] > 0).long()], 2, like=y)


def test_candidates_of_a_restart_are_of_one_kind_and_kinds_take_turns() -> None:
    x, y, _ = lines(60, 2)
    calls: list[str] = []
    starts = [noted(random_assignments, calls, name) for name in "abc"]
    fit(MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)), x, y, starts=starts, n_restarts=4, n_candidates=2)
    assert calls == list("aabbccaa")


def test_a_start_in_another_order_of_components_is_no_new_one() -> None:
    x, y, _ = lines(60, 2)
    calls: list[str] = []
    starts = [noted(by_sign, calls, "a"), noted(random_assignments, calls, "b")]
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    result = fit(mixture, x, y, starts=starts, n_restarts=4, n_candidates=1)
    assert calls == list("abab" + "b")
    assert len(result.runs) == 4
    alone = fit(mixture, x, y, starts=[by_sign], n_restarts=20)
    assert len(alone.runs) == 1
    assert "1 of 1 " in str(alone)


ONE: dict[str, Callable[[], Experts]] = {
    "linear": lambda: LinearExperts(1, 1),
    "gaussian": lambda: GLMExperts(1, 1, Gaussian()),
    "poisson": lambda: GLMExperts(1, 1, Poisson()),
    "neural": lambda: NeuralExperts(1, 1, nn.Linear(1, 1).double(), Gaussian()),
}


@pytest.mark.parametrize("n_candidates", [1, 3])
@pytest.mark.parametrize("name", ONE)
def test_one_component_has_one_start(name: str, n_candidates: int) -> None:
    x, y, _ = lines(40, 1)
    result = fit(MixtureOfExperts(SoftmaxGate(1, 1), ONE[name]()), x, y.square().round(), n_candidates=n_candidates)
    assert len(result.runs) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_signature_knows_a_start_whatever_the_order(dtype: torch.dtype) -> None:
    one, other = (responsibilities(50, 4, dtype=dtype, seed=seed) for seed in (0, 1))
    assert signature(one) == signature(one[:, [3, 1, 0, 2]])
    assert signature(one) != signature(other)
    assert signature(one) != signature(one.flip(0))
