"""Runs in lockstep end where each ends by itself."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from mixpyro import (
    DirichletGate,
    GaussianExperts,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    NeuralGate,
    ObjectDirichletGate,
    RelevanceLinearExperts,
    arguments,
    fit,
)
from mixpyro.experts.families import Poisson
from mixpyro.fitting import lockstep
from mixpyro.fitting.em import Attempt, Options
from mixpyro.fitting.lockstep import Lockstep
from mixpyro.fitting.restarts import Search
from mixpyro.fitting.starts import DEFAULT_STARTS, random_assignments
from mixpyro.fitting.table import Data
from mixpyro.gates.dirichlet import DirichletStatistics
from tests.problems import lines

K = 3
MIXTURES: dict[str, Callable[[], MixtureOfExperts]] = {
    "linear": lambda: MixtureOfExperts(DirichletGate(K, concentration=[1.0, 2.0, 0.5]), LinearExperts(K, 1)),
    "gaussian": lambda: MixtureOfExperts(DirichletGate(K), GaussianExperts(K, 1)),
}


def table(n_objects: int = 90, *, weighted: bool = False) -> Data:
    """Lines that overlap."""
    x, y, _ = lines(n_objects, K, noise=0.8)
    return Data(x, y, x, torch.rand(n_objects).double() if weighted else None)


def begun(make: Callable[[], MixtureOfExperts], data: Data, n_runs: int, tolerance: float = 1e-7) -> list[Attempt]:
    """Runs from random assignments."""
    attempts = []
    for number in range(n_runs):
        mixture, generator = make(), Generator().manual_seed(number)
        mixture.experts.centre(data.x, data.y)
        attempt = Attempt(mixture, data, Options(tolerance=tolerance))
        with torch.no_grad():
            attempt.begin(lambda m=mixture, g=generator: random_assignments(m, data.x, data.y, g))  # type: ignore[misc]
        attempts.append(attempt)
    return attempts


def never(attempt: Attempt) -> bool:
    """No run is hopeless."""
    return False


def always(attempt: Attempt) -> bool:
    """Nobody stops the runs."""
    return True


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", MIXTURES)
def test_each_run_goes_as_it_goes_alone(name: str, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In several blocks of rows, with runs that end at different iterations."""
    monkeypatch.setattr(lockstep, "BLOCK_NUMBERS", 1)
    monkeypatch.setattr(lockstep, "LEAST_ROWS", 40)
    data = table(weighted=weighted)
    alone, together = (begun(MIXTURES[name], data, 5) for _ in range(2))
    with torch.no_grad():
        for attempt in alone:
            attempt.iterate(300, always)
        Lockstep(together).iterate(300, always, never)
    assert len({len(attempt.trace) for attempt in alone}) > 1
    for one, other in zip(alone, together, strict=True):
        assert other.trace == pytest.approx(one.trace, abs=1e-8)
        assert other.converged == one.converged
        torch.testing.assert_close(other.responsibilities, one.responsibilities, atol=1e-6, rtol=0)
        torch.testing.assert_close(other.mixture.state_dict(), one.mixture.state_dict(), atol=1e-6, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_fit_is_the_same_restart_by_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    data = table()
    options = {"n_restarts": 6, "progress": False}
    together = fit(MIXTURES["linear"](), data.x, data.y, **options)  # type: ignore[arg-type]
    monkeypatch.setattr(Lockstep, "suits", staticmethod(lambda mixture: False))
    alone = fit(MIXTURES["linear"](), data.x, data.y, **options)  # type: ignore[arg-type]
    assert together.bound == pytest.approx(alone.bound, abs=1e-7)
    torch.testing.assert_close(together.responsibilities, alone.responsibilities, atol=1e-6, rtol=0)
    for one, other in zip(together.runs, alone.runs, strict=True):
        # A run may be given up sooner beside the others, and no sooner than that.
        shorter = min(len(one.trace), len(other.trace))
        assert one.trace[:shorter] == pytest.approx(other.trace[:shorter], abs=1e-7)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_many_restarts_go_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    data = table()
    options = {"n_restarts": 5, "n_candidates": 2, "progress": False}
    at_once = fit(MIXTURES["linear"](), data.x, data.y, **options)  # type: ignore[arg-type]
    monkeypatch.setattr(Lockstep, "MOST_COMPONENTS", 12)
    groups: list[int] = []
    iterate = Lockstep.iterate

    def counted(self: Lockstep, *arguments: object) -> None:
        groups.append(len(self.members))
        iterate(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Lockstep, "iterate", counted)
    in_groups = fit(MIXTURES["linear"](), data.x, data.y, **options)  # type: ignore[arg-type]
    assert groups == [4, 2, 4, 2, 2, 1]
    assert in_groups.bound == pytest.approx(at_once.bound, abs=1e-7)


def test_one_that_overflows_ends_by_itself() -> None:
    data = table()
    good, bad, other = begun(MIXTURES["linear"], data, 3)
    assert bad.pending is not None
    for values in bad.pending.experts:
        values.fill_(math.nan)
    with torch.no_grad(), arguments.checked_already():
        Lockstep([good, bad, other]).iterate(100, always, never)
    assert bad.trace == [-math.inf]
    assert good.converged
    assert other.converged


def test_it_ends_when_it_is_told_to() -> None:
    attempts = begun(MIXTURES["linear"], table(), 3, tolerance=0.0)
    answers = iter([True, True, False])
    with torch.no_grad():
        Lockstep(attempts).iterate(100, lambda one: next(answers), never)
    assert [len(attempt.trace) for attempt in attempts] == [3, 3, 3]
    for attempt in attempts:
        assert float(attempt.mixture.bound(attempt.data.x, attempt.data.y)) == pytest.approx(attempt.trace[-1])


@pytest.mark.parametrize(
    ("mixture", "suits"),
    [
        (MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)), True),
        (MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1, 2, noise_per_output=False)), True),
        (MixtureOfExperts(DirichletGate(2), GaussianExperts(2, 1)), True),
        (MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1, noise_per_component=False)), False),
        (MixtureOfExperts(DirichletGate(2), RelevanceLinearExperts(2, 1)), False),
        (MixtureOfExperts(DirichletGate(2), GLMExperts(2, 1, Poisson())), False),
        (MixtureOfExperts(ObjectDirichletGate(2), LinearExperts(2, 1)), False),
        (MixtureOfExperts(NeuralGate(2, nn.Linear(1, 2)), LinearExperts(2, 1)), False),
        (
            MixtureOfExperts(
                DirichletGate(2, concentration_prior=torch.distributions.Gamma(2.0, 1.0)), LinearExperts(2, 1)
            ),
            False,
        ),
    ],
)
def test_only_conjugate_updates_from_sums_suit_it(mixture: MixtureOfExperts, suits: bool) -> None:
    assert Lockstep.suits(mixture) == suits


def test_a_run_without_hope_is_given_up_beside_a_better_one() -> None:
    data = table()
    search = Search(MIXTURES["linear"](), data, Options(tolerance=0.0), DEFAULT_STARTS, n_restarts=2, n_candidates=1)
    better, worse = begun(MIXTURES["linear"], data, 2)
    worse.trace = [-100.0 - 0.5**number for number in range(20)]
    search.current = [worse, better]
    assert not search.is_hopeless(worse)
    better.trace = [-90.0]
    assert search.is_hopeless(worse)
    assert not search.is_hopeless(better)


class Tempered(MixtureOfExperts):
    """A mixture whose likelihood counts by half."""

    def expected_log_joint(self, *arguments: Any, **options: Any) -> Tensor:
        """Half of it."""
        return 0.5 * super().expected_log_joint(*arguments, **options)


class Penalised(LinearExperts):
    """Experts with a term of their own in the bound."""

    def kl_divergence(self) -> Tensor:
        """And half the squared coefficients."""
        return super().kl_divergence() + 0.5 * self.centred_coefficients.square().sum()


class Capped(DirichletGate):
    """A gate that believes fifty objects, whatever their number."""

    def update(self, statistics: DirichletStatistics, step_size: float = 1.0) -> None:
        """From their shares alone."""
        super().update(statistics._replace(counts=50.0 * statistics.counts / statistics.counts.sum()), step_size)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "make",
    [
        lambda: Tempered(DirichletGate(K), LinearExperts(K, 1)),
        lambda: MixtureOfExperts(DirichletGate(K), Penalised(K, 1)),
        lambda: MixtureOfExperts(Capped(K), LinearExperts(K, 1)),
    ],
)
def test_what_a_users_subclass_does_is_done(make: Callable[[], MixtureOfExperts]) -> None:
    data, mixture = table(), make()
    assert not Lockstep.suits(mixture)
    result = fit(mixture, data.x, data.y, n_restarts=2, progress=False)
    assert result.bound == pytest.approx(float(mixture.bound(data.x, data.y)), abs=1e-7)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_start_that_fails_takes_no_other_with_it() -> None:
    data, asked = table(), itertools.count()

    def fragile(mixture: MixtureOfExperts, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        if next(asked) % 2:
            torch.linalg.cholesky(-torch.eye(2))
        return random_assignments(mixture, x, y, generator)

    result = fit(MIXTURES["linear"](), data.x, data.y, starts=[fragile], n_restarts=4, n_candidates=1, progress=False)
    assert [math.isfinite(run.bound) for run in result.runs] == [True, False, True, False]
    sound = fit(MIXTURES["linear"](), data.x, data.y, starts=[random_assignments], n_restarts=3, n_candidates=1)
    assert result.runs[0].trace == pytest.approx(sound.runs[0].trace, abs=1e-8)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("dtype", "precision", "rounding"),
    [(torch.float64, 0.01, 1e-8), (torch.float64, 1e-4, 1e-3), (torch.float32, 0.01, 1.0)],
)
def test_a_column_that_is_there_twice_ends_a_fit_of_many_components_all_the_same(
    dtype: torch.dtype, precision: float, rounding: float
) -> None:
    """Λ is singular but for the prior, which is 10⁻¹³ or less of it: the sums' own rounding is all that may be seen."""
    first = 1e4 * torch.randn(600, 1, dtype=torch.float64)
    x = torch.cat([first, first], dim=1).to(dtype)
    z = torch.randint(6, (600, 1))
    y = (3.0 * (z - 2.5) * first / 1e4 + z + 0.3 * torch.randn(600, 1, dtype=torch.float64)).to(dtype)
    mixture = MixtureOfExperts(DirichletGate(6), LinearExperts(6, 2, coefficient_precision=precision))
    result = fit(mixture, x, y, n_restarts=2, n_candidates=1, max_iterations=400, progress=False)
    falls = [before - after for run in result.runs for before, after in itertools.pairwise(run.trace)]
    assert max(falls) <= rounding
    assert all(run.converged for run in result.runs)
