"""One E-step and one update for many runs, each of which ends where it ends alone."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pyro.nn import PyroModule
from torch import Generator, nn

from mixpyro import (
    DirichletGate,
    MixtureOfExperts,
    NeuralExperts,
    fit,
)
from mixpyro.experts.families import Gaussian
from mixpyro.fitting import em
from mixpyro.fitting.restarts import Search
from mixpyro.fitting.result import FitResult
from mixpyro.fitting.runs import Options, Runs, Trace
from mixpyro.fitting.starts import random_assignments
from mixpyro.fitting.table import Table
from mixpyro.numerics import blocks
from tests.fitting.mixtures import MIXTURES, table

# Few rows in small components: that is not what these tests ask.
pytestmark = [
    pytest.mark.filterwarnings("ignore:the noise of component"),
    pytest.mark.usefixtures("without_type_checks"),
]


CONJUGATE = (
    "linear",
    "sticks",
    "sticks, learnt",
    "shared noise",
    "relevance",
    "gaussian",
    "spherical",
    "tied",
    "shared slope",
    "heterogeneous",
    "outputs",
)


def never(trace: Trace) -> bool:
    """No run is hopeless."""
    return False


def always(trace: Trace) -> bool:
    """No run is stopped."""
    return True


def begun(make: Callable[[], MixtureOfExperts], rows: Table, seeds: list[int], tolerance: float = 1e-7) -> Runs:
    """Runs from random assignments."""
    mixture = make()
    mixture.experts.centre(rows.x, rows.y)
    rows = rows.with_columns(mixture.experts)
    starts = [
        em.start(mixture, rows, random_assignments(mixture, rows.x, rows.y, Generator().manual_seed(seed)))
        for seed in seeds
    ]
    return Runs(mixture, rows, Options(tolerance=tolerance), [Trace() for _ in seeds], starts)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", MIXTURES)
def test_each_run_goes_as_it_goes_alone(name: str, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In several blocks of rows, with runs that end at different iterations."""
    if weighted and name == "an object each":
        pytest.skip("an object of weight three is not three objects")
    monkeypatch.setattr(blocks, "LIMITS", blocks.Limits(numbers=1, least_rows=40, most_rows=40, e_step_factor=1))
    # Those of lines go on until they have ended.
    rows, n_iterations = table(weighted=weighted), 60 if name == "linear" else 20 if name in CONJUGATE else 4
    # L-BFGS and Newton's method amplify rounding.
    precision = 1e-8 if name in CONJUGATE else 1e-5
    with torch.no_grad():
        together = begun(MIXTURES[name], rows, [0, 1, 2], tolerance=1e-4)
        together.iterate(n_iterations, always, never)
        together.close()
        for number in range(3):
            alone = begun(MIXTURES[name], rows, [number], tolerance=1e-4)
            alone.iterate(n_iterations, always, never)
            alone.close()
            assert together.traces[number].bounds == pytest.approx(alone.traces[0].bounds, abs=precision)
            assert together.traces[number].has_ended == alone.traces[0].has_ended
            responsibilities = together.responsibilities(number), alone.responsibilities(0)
            torch.testing.assert_close(*responsibilities, atol=1e-4, rtol=0)
            states = together.ended[number].state, alone.ended[0].state
            torch.testing.assert_close(*states, atol=1e-3, rtol=1e-3)
    if name == "linear":
        assert len({len(trace.bounds) for trace in together.traces}) > 1


def assert_same_optimum(one: FitResult, other: FitResult, n_objects: int) -> None:
    """Of several runs that reach it within the tolerance, either may be the best, under other labels."""
    assert one.bound == pytest.approx(other.bound, abs=1e-7 * n_objects)
    together = [result.responsibilities @ result.responsibilities.mT for result in (one, other)]
    torch.testing.assert_close(*together, atol=1e-3, rtol=0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ["linear", "gaussian"])
def test_a_fit_in_groups_of_one_is_the_same_restart_by_restart(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = table()
    options: dict[str, Any] = {"n_restarts": 6, "progress": False}
    together = fit(MIXTURES[name](), data.x, data.y, **options)
    monkeypatch.setattr(Search, "MOST_COMPONENTS", 1)
    alone = fit(MIXTURES[name](), data.x, data.y, **options)
    assert_same_optimum(together, alone, len(data.x))
    for one, other in zip(together.runs, alone.runs, strict=True):
        # A run may be given up sooner beside the others, and no sooner than that.
        shorter = min(len(one.trace), len(other.trace))
        assert one.trace[:shorter] == pytest.approx(other.trace[:shorter], abs=1e-7)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_many_restarts_go_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    data = table()
    options: dict[str, Any] = {"n_restarts": 5, "n_candidates": 2, "progress": False}
    at_once = fit(MIXTURES["linear"](), data.x, data.y, **options)
    monkeypatch.setattr(Search, "MOST_COMPONENTS", 12)
    groups: list[int] = []
    iterate = Runs.iterate

    def counted(self: Runs, *arguments: Any) -> None:
        groups.append(len(self.traces))
        iterate(self, *arguments)

    monkeypatch.setattr(Runs, "iterate", counted)
    in_groups = fit(MIXTURES["linear"](), data.x, data.y, **options)
    assert groups == [4, 2, 4, 2, 2, 1]
    assert_same_optimum(in_groups, at_once, len(data.x))


def test_a_run_that_overflows_ends_by_itself() -> None:
    with torch.no_grad():
        runs = begun(MIXTURES["linear"], table(), [0, 1, 2])
        for values in runs.step.statistics.experts:  # type: ignore[union-attr]
            values[1] = math.nan
        runs.iterate(100, always, never)
    assert runs.traces[1].bounds == [-math.inf]
    assert runs.traces[0].has_ended
    assert runs.traces[2].has_ended


def test_the_runs_end_when_they_are_told_to() -> None:
    answers = iter([True, True, False])
    with torch.no_grad():
        runs = begun(MIXTURES["linear"], table(), [0, 1, 2], tolerance=0.0)
        runs.iterate(100, lambda trace: next(answers), never)
        runs.close()
    for number, trace in enumerate(runs.traces):
        assert len(trace.bounds) == 3
        runs.mixture.hold(runs.ended[number].state)
        assert float(runs.mixture.bound(runs.table.x, runs.table.y)) == pytest.approx(trace.bounds[-1])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("frozen", ["gate", "experts"])
def test_a_frozen_part_stays_while_the_other_is_fitted(frozen: str) -> None:
    data = table()
    mixture = MIXTURES["softmax and glm"]()
    fit(mixture, data.x, data.y, n_restarts=2, max_iterations=5, progress=False)
    getattr(mixture, frozen).requires_grad_(False)
    before = [parameter.clone() for parameter in getattr(mixture, frozen).parameters()]
    result = fit(mixture, data.x, data.y, n_restarts=2, progress=False)
    assert all(map(torch.equal, before, getattr(mixture, frozen).parameters()))
    assert result.bound == pytest.approx(float(mixture.bound(data.x, data.y)), abs=1e-7)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_mixture_with_nothing_to_fit_is_evaluated() -> None:
    data = table()
    mixture = MIXTURES["softmax and glm"]().requires_grad_(False)
    result = fit(mixture, data.x, data.y, n_restarts=3, progress=False)
    assert result.bound == pytest.approx(float(mixture.bound(data.x, data.y)), abs=1e-9)
    assert len(result.runs) == 3


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_running_means_of_a_network_belong_to_its_run() -> None:
    """A network in training mode counts the batches it has seen: the best run's count is the mixture's."""
    data = table()
    normalisation = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 1)).double()
    plain = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    experts = NeuralExperts(2, 1, [plain, normalisation], Gaussian(), prior_scale=1.0)
    mixture = MixtureOfExperts(DirichletGate(2), experts)
    assert isinstance(experts, PyroModule)
    fit(mixture, data.x, data.y, n_restarts=2, max_iterations=3, progress=False)
    assert int(normalisation[0].num_batches_tracked) > 0  # type: ignore[arg-type]
