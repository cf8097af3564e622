"""Restarts are independent, and no start is run twice."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from mixpyro import DirichletGate, GLMExperts, LinearExperts, MixtureOfExperts, NeuralExperts, SoftmaxGate, fit
from mixpyro.experts import Experts
from mixpyro.experts.families import Gaussian, Poisson
from mixpyro.fitting.candidates import signature
from mixpyro.fitting.restarts import Search
from mixpyro.fitting.runs import Options
from mixpyro.fitting.starts import Start, one_hot, random_assignments, random_subsets
from mixpyro.fitting.table import checked_table
from mixpyro.shapes import Inputs, Outputs
from tests.problems import inputs, lines, responsibilities


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


def test_subsets_in_place_of_a_kind_that_is_exhausted_are_those_of_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    x = inputs(60, 1)
    y = torch.poisson((1.0 + x * (torch.arange(60)[:, None] % 2 * 2 - 1)).exp())
    mixture = MixtureOfExperts(SoftmaxGate(2, 0), GLMExperts(2, 1, Poisson()))
    table = checked_table(mixture, x, y, x[:, :0], None, new_fit=True)
    found = []
    for most in (2**24, 0):
        monkeypatch.setattr("mixpyro.fitting.candidates.MOST_NUMBERS", most)
        search = Search(mixture, table, Options(), [by_sign, random_subsets], n_restarts=3, n_candidates=2)
        seen: set[tuple[float, ...]] = set()
        with torch.no_grad():
            search.candidates.of_restart(0, search.table, search.initial, seen)
            found.append(search.candidates.of_restart(2, search.table, search.initial, seen))
    for first, second in zip(*found, strict=True):
        assert first is not None and second is not None
        torch.testing.assert_close(first.responsibilities, second.responsibilities, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [None, [row // 4 for row in range(60)]], ids=["rows", "groups"])
def test_starts_that_are_fitted_together_are_those_of_each_alone(groups: list[int] | None) -> None:
    x = inputs(60, 1)
    y = torch.poisson((1.0 + x * (torch.arange(60)[:, None] // 4 % 2 * 2 - 1)).exp())
    mixture = MixtureOfExperts(SoftmaxGate(2, 0), GLMExperts(2, 1, Poisson()))
    table = checked_table(mixture, x, y, x[:, :0], None, groups=groups, new_fit=True)
    options: dict[str, Any] = {"n_restarts": 3, "n_candidates": 2}
    search = Search(mixture, table, Options(), [random_subsets], **options)
    with torch.no_grad():
        alone = [search.candidates.of_restart(number, search.table, search.initial, set()) for number in range(3)]
        search.candidates.prepare(range(3), search.table, search.initial)
        together = [search.candidates.of_restart(number, search.table, search.initial, set()) for number in range(3)]
    for one, other in zip(alone, together, strict=True):
        for first, second in zip(one, other, strict=True):
            assert first is not None and second is not None
            torch.testing.assert_close(first.responsibilities, second.responsibilities, rtol=1e-5, atol=1e-5)
