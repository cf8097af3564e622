"""One E-step and one update for many runs, each of which ends where it ends alone."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pyro.nn import PyroModule
from torch import Generator, Tensor, nn

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    GaussianExperts,
    GLMExperts,
    HeterogeneousExperts,
    HeterogeneousOutputs,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    NeuralExperts,
    NeuralGate,
    ObjectDirichletGate,
    RandomEffectsExperts,
    RelevanceLinearExperts,
    SharedLinearExperts,
    SoftmaxGate,
    StickBreakingGate,
    TreeGate,
    fit,
)
from mixpyro.conjugate.dirichlet import Counts, Dirichlet
from mixpyro.experts.families import Gaussian
from mixpyro.fitting import em
from mixpyro.fitting.restarts import Search
from mixpyro.fitting.result import FitResult
from mixpyro.fitting.runs import Options, Runs, Trace
from mixpyro.fitting.starts import random_assignments
from mixpyro.fitting.table import Table
from mixpyro.numerics import blocks
from tests.problems import lines

# Few rows in small components: that is not what these tests ask.
pytestmark = [
    pytest.mark.filterwarnings("ignore:the noise of component"),
    pytest.mark.usefixtures("without_type_checks"),
]

K = 3
GAMMA = torch.distributions.Gamma(2.0, 1.0)


def network(n_outputs: int) -> nn.Module:
    """A layer that starts at zero, so that every run of a fit does."""
    layer = nn.Linear(1, n_outputs).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    return layer


MIXTURES: dict[str, Callable[[], MixtureOfExperts]] = {
    "linear": lambda: MixtureOfExperts(DirichletGate(K, concentration=[1.0, 2.0, 0.5]), LinearExperts(K, 1)),
    "shared noise": lambda: MixtureOfExperts(DirichletGate(K), LinearExperts(K, 1, noise_per_component=False)),
    "relevance": lambda: MixtureOfExperts(DirichletGate(K), RelevanceLinearExperts(K, 1)),
    "random effects": lambda: MixtureOfExperts(DirichletGate(K), RandomEffectsExperts(K, 1, ["intercept", 0])),
    "gaussian": lambda: MixtureOfExperts(DirichletGate(K), GaussianExperts(K, 1)),
    "spherical": lambda: MixtureOfExperts(DirichletGate(K), GaussianExperts(K, 1, covariance="spherical")),
    "learnt concentration": lambda: MixtureOfExperts(DirichletGate(K, concentration_prior=GAMMA), LinearExperts(K, 1)),
    "sticks": lambda: MixtureOfExperts(StickBreakingGate(K), LinearExperts(K, 1)),
    "sticks, learnt": lambda: MixtureOfExperts(StickBreakingGate(K, concentration=GAMMA), LinearExperts(K, 1)),
    "an object each": lambda: MixtureOfExperts(ObjectDirichletGate(K, concentration=3.0), LinearExperts(K, 1)),
    "marginal": lambda: MixtureOfExperts(MarginalObjectDirichletGate(K, learn_mean=True), LinearExperts(K, 1)),
    "softmax and glm": lambda: MixtureOfExperts(
        SoftmaxGate(K, 1, prior_scale=3.0), GLMExperts(K, 1, Gaussian(), prior_scale=10.0)
    ),
    "tied": lambda: MixtureOfExperts(DirichletGate(K), GaussianExperts(K, 1, covariance="tied")),
    "shared slope": lambda: MixtureOfExperts(DirichletGate(K), SharedLinearExperts(K, 1, shared=[0])),
    "softmax and glm with a shared slope": lambda: MixtureOfExperts(
        SoftmaxGate(K, 1, prior_scale=3.0), GLMExperts(K, 1, Gaussian(), prior_scale=10.0, shared=[0, "scale"])
    ),
    "bayesian softmax": lambda: MixtureOfExperts(BayesianSoftmaxGate(K, 1), LinearExperts(K, 1)),
    "neural": lambda: MixtureOfExperts(NeuralGate(K, network(K), prior_scale=2.0), LinearExperts(K, 1)),
    "tree": lambda: MixtureOfExperts(TreeGate(((2, 0), 1), 1), LinearExperts(K, 1)),
    "heterogeneous": lambda: MixtureOfExperts(
        DirichletGate(K), HeterogeneousExperts([LinearExperts(2, 1), GaussianExperts(1, 1)])
    ),
    "outputs": lambda: MixtureOfExperts(DirichletGate(K), HeterogeneousOutputs([LinearExperts(K, 1)])),
}
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


def table(n_objects: int = 90, *, weighted: bool = False) -> Table:
    """Lines that overlap."""
    x, y, _ = lines(n_objects, K, noise=0.8)
    return Table(x, y, x, torch.rand(n_objects).double() if weighted else None)


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


class Tempered(MixtureOfExperts):
    """A mixture whose likelihood counts by half."""

    def log_joint(self, *arguments: Any, **options: Any) -> Tensor:
        """Half of it."""
        return 0.5 * super().log_joint(*arguments, **options)


class Penalised(LinearExperts):
    """Experts with a term of their own in the bound."""

    def kl(self, posterior: Any) -> Tensor:
        """And half the squared coefficients."""
        return super().kl(posterior) + 0.5 * posterior.mean.square().sum((-3, -2, -1))


class Capped(DirichletGate):
    """A gate that counts fifty objects, whatever their number."""

    def updated(self, statistics: Counts, before: Dirichlet) -> Dirichlet:
        """From their shares alone."""
        counts = statistics.counts
        posterior: Dirichlet = super().updated(Counts(50.0 * counts / counts.sum(-1, keepdim=True)), before)
        return posterior


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
    result = fit(mixture, data.x, data.y, n_restarts=2, progress=False)
    assert result.bound == pytest.approx(float(mixture.bound(data.x, data.y)), abs=1e-7)
    plain = fit(MIXTURES["linear"](), data.x, data.y, n_restarts=2, progress=False)
    assert result.bound != pytest.approx(plain.bound, abs=1e-3)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_start_that_fails_stops_no_other() -> None:
    data, asked = table(), itertools.count()

    def fragile(mixture: MixtureOfExperts, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        if next(asked) % 2:
            torch.linalg.cholesky(-torch.eye(2))
        return random_assignments(mixture, x, y, generator)

    options: dict[str, Any] = {"n_candidates": 1, "progress": False}
    result = fit(MIXTURES["linear"](), data.x, data.y, starts=[fragile], n_restarts=4, **options)
    assert [math.isfinite(run.bound) for run in result.runs] == [True, False, True, False]
    sound = fit(MIXTURES["linear"](), data.x, data.y, starts=[random_assignments], n_restarts=3, **options)
    assert result.runs[0].trace == pytest.approx(sound.runs[0].trace, abs=1e-8)


def test_candidates_that_fail_stop_no_other() -> None:
    data = table()

    def failing(mixture: MixtureOfExperts, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        return torch.linalg.cholesky(-torch.eye(2))

    starts = [random_assignments, failing, failing]
    result = fit(MIXTURES["linear"](), data.x, data.y, starts=starts, n_restarts=3, progress=False)
    assert all(math.isfinite(run.bound) for run in result.runs)


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
