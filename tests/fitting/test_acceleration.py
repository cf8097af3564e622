"""Accelerated runs end where plain EM ends, in fewer iterations, and their bounds never fall."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Generator, Tensor, nn

from mixpyro import (
    DirichletGate,
    FitResult,
    GaussianExperts,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    NeuralGate,
    ObjectDirichletGate,
    RelevanceLinearExperts,
    SoftmaxGate,
    fit,
)
from mixpyro.experts import HeterogeneousExperts
from mixpyro.experts.families import Gaussian
from mixpyro.fitting import em
from mixpyro.fitting.acceleration import Accelerator
from mixpyro.fitting.pace import Pace, Step
from mixpyro.fitting.runs import Options, Runs, Trace
from mixpyro.fitting.table import Table
from mixpyro.numerics import nested
from mixpyro.saving import atomic_file
from tests.benchmarks.acceleration import PROBLEMS as BENCHMARK
from tests.benchmarks.acceleration import plain_em

pytestmark = [pytest.mark.usefixtures("without_type_checks"), pytest.mark.filterwarnings("ignore::RuntimeWarning")]


class Problem(NamedTuple):
    """Arguments of a fit that plain EM takes many iterations for."""

    make: Callable[[], MixtureOfExperts]
    x: Tensor
    y: Tensor
    options: dict[str, Any]


def lines(make: Callable[[], MixtureOfExperts], seed: int = 7, **options: Any) -> Problem:
    """Two lines that cross, in noise as large as they are."""
    whole = BENCHMARK["overlapping lines"][0](seed, 200)
    return Problem(make, whole.x, whole.y, {"initial_responsibilities": whole.start, **options})


def counts() -> Problem:
    """Two Poisson regressions."""
    whole = BENCHMARK["counts"][0](0, 200)
    return Problem(whole.make, whole.x, whole.y, {"initial_responsibilities": whole.start})


def clouds(covariance: str) -> Problem:
    """Three Gaussian clouds that overlap."""
    generator = Generator().manual_seed(0)
    z = torch.randint(3, (300,), generator=generator)
    y = 1.2 * torch.eye(3).double()[z] + torch.randn(300, 3, generator=generator).double() * 0.6
    start = nn.functional.one_hot(z, 3).double() + 0.2
    return Problem(
        lambda: MixtureOfExperts(DirichletGate(3), GaussianExperts(3, 3, covariance=covariance)),
        y[:, :0],
        y,
        {"initial_responsibilities": start},
    )


def known() -> dict[str, Any]:
    """Known components of some rows, and rows of weight two and zero."""
    mask = torch.arange(200) % 20 == 0
    labels = BENCHMARK["overlapping lines"][0](7, 200).start.argmax(1)
    return {"observed": labels, "mask": mask, "weights": (torch.arange(200) % 3).double()}


def linear() -> MixtureOfExperts:
    return MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))


def two_families() -> MixtureOfExperts:
    members = [LinearExperts(1, 1), GLMExperts(1, 1, Gaussian(), prior_scale=10.0)]
    return MixtureOfExperts(DirichletGate(2), HeterogeneousExperts(members))


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "lines": lambda: lines(linear),
    "one noise": lambda: lines(
        lambda: MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1, noise_per_component=False))
    ),
    "relevance": lambda: lines(lambda: MixtureOfExperts(DirichletGate(2), RelevanceLinearExperts(2, 1))),
    "gated": lambda: lines(lambda: MixtureOfExperts(SoftmaxGate(2, 1, prior_scale=3.0), LinearExperts(2, 1)), seed=2),
    "counts": counts,
    "two families": lambda: lines(two_families),
    "known components": lambda: lines(linear, **known()),
    "full": lambda: clouds("full"),
    "diagonal": lambda: clouds("diagonal"),
    "spherical": lambda: clouds("spherical"),
}


def fitted(problem: Problem, **options: Any) -> FitResult:
    arguments = {"progress": False, "max_iterations": 5000} | problem.options | options
    return fit(problem.make(), problem.x, problem.y, **arguments)


def n_rows(problem: Problem) -> float:
    weights = problem.options.get("weights")
    return float(len(problem.x) if weights is None else weights.sum())


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_optimum_is_that_of_plain_em(name: str) -> None:
    problem = PROBLEMS[name]()
    with plain_em():
        optimum, slow = fitted(problem, tolerance=1e-12), fitted(problem)
    fast, precise = fitted(problem), fitted(problem, tolerance=1e-11)
    assert optimum.bound - fast.bound == pytest.approx(0.0, abs=1e-7 * n_rows(problem))
    assert optimum.bound - precise.bound == pytest.approx(0.0, abs=1e-9 * n_rows(problem))
    torch.testing.assert_close(precise.responsibilities, optimum.responsibilities, atol=1e-4, rtol=0)
    assert fast.converged
    assert precise.converged
    assert fast.n_iterations <= (0.8 if slow.n_iterations > 50 else 1.0) * slow.n_iterations
    assert precise.n_iterations <= (0.5 if slow.n_iterations > 50 else 1.0) * optimum.n_iterations


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_bound_never_falls_and_is_that_of_the_state(name: str) -> None:
    problem = PROBLEMS[name]()
    result = fitted(problem, tolerance=1e-9)
    rounding = 1e-12 * abs(result.bound)
    assert all(after >= before - rounding for before, after in itertools.pairwise(result.trace))
    if "observed" not in problem.options:
        assert float(result.mixture.bound(problem.x, problem.y)) == pytest.approx(result.bound, abs=1e-9)


@pytest.mark.parametrize("name", ["lines", "gated", "counts", "full"])
def test_in_float32_the_optimum_is_the_same(name: str) -> None:
    problem = PROBLEMS[name]()
    start = problem.options["initial_responsibilities"].float()
    single = problem._replace(x=problem.x.float(), y=problem.y.float(), options={"initial_responsibilities": start})
    result = fitted(single)
    with plain_em():
        wanted = fitted(problem, tolerance=1e-10)
    assert result.converged
    assert result.bound == pytest.approx(wanted.bound, abs=1e-6 * len(problem.x) + 1e-5 * abs(wanted.bound))


def begun(problem: Problem, starts: list[Tensor], tolerance: float = 1e-7) -> Runs:
    """Runs from these starts in one group."""
    mixture = problem.make()
    y = problem.y if problem.y.ndim > 1 else problem.y.unsqueeze(1)
    table = Table(problem.x, y, problem.x, None)
    mixture.experts.centre(problem.x, problem.y)
    table = table.with_columns(mixture.experts)
    snapshots = [em.start(mixture, table, start / start.sum(-1, keepdim=True)) for start in starts]
    return Runs(mixture, table, Options(tolerance=tolerance), [Trace() for _ in starts], snapshots)


def perturbed(problem: Problem, seed: int) -> Tensor:
    """The start of a problem, less sure, with noise of its own."""
    start: Tensor = problem.options["initial_responsibilities"]
    return start + 0.5 * torch.rand(start.shape, generator=Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("name", ["lines", "gated", "counts"])
def test_a_run_goes_the_same_way_beside_others(name: str) -> None:
    problem = PROBLEMS[name]()
    starts = [perturbed(problem, seed) for seed in range(4)]
    with torch.no_grad():
        together = begun(problem, starts)
        together.iterate(500, lambda _: True, lambda _: False)
        together.close()
        for number, start in enumerate(starts):
            alone = begun(problem, [start])
            alone.iterate(500, lambda _: True, lambda _: False)
            bounds, others = alone.traces[0].bounds, together.traces[number].bounds
            assert min(len(bounds), len(others)) > 15
            assert bounds[:15] == pytest.approx(others[:15], abs=1e-6)
            assert bounds[-1] == pytest.approx(others[-1], abs=2e-7 * len(problem.x))
            assert alone.traces[0].has_ended == together.traces[number].has_ended


def first_rejected(bounds: list[float]) -> int:
    """Number of the first E-step of a state that was not taken."""
    return next(n for n, (one, other) in enumerate(itertools.pairwise(bounds), start=1) if one == other)


def test_a_step_that_lowers_the_bound_is_counted_and_taken_back() -> None:
    problem = lines(linear, seed=16)
    with torch.no_grad():
        whole = begun(problem, [problem.options["initial_responsibilities"]])
        whole.iterate(500, lambda _: True, lambda _: False)
        bounds = whole.traces[0].bounds
        number = first_rejected(bounds)
        states = []
        for n_iterations in (number, number + 1, number + 2):
            runs = begun(problem, [problem.options["initial_responsibilities"]])
            runs.iterate(n_iterations, lambda _: True, lambda _: False)
            runs.close()
            assert runs.traces[0].bounds == bounds[:n_iterations]
            states.append(runs.ended[0].state)
            runs.mixture.hold(states[-1])
            assert float(runs.mixture.bound(problem.x, problem.y)) == pytest.approx(bounds[n_iterations - 1], abs=1e-9)
        torch.testing.assert_close(states[1], states[0], atol=0, rtol=0)
        # The iteration after it is one of plain EM from there.
        with plain_em():
            plain = begun(problem, [problem.options["initial_responsibilities"]])
            plain.state = nested.stack([states[0]])
            plain.step = None
            plain.iterate(1, lambda _: True, lambda _: False)
        assert plain.traces[0].bounds[0] == pytest.approx(bounds[number + 1], abs=1e-9)


def test_a_run_does_not_end_at_a_saddle() -> None:
    """Plain EM gains less than 1e-6 nats an iteration for two hundred iterations there, and then 48 nats."""
    problem = BENCHMARK["clouds"][0](7, 500)
    result = fit(problem.make(), problem.x, problem.y, initial_responsibilities=problem.start + 0.25, progress=False)
    assert result.bound == pytest.approx(-4060.985, abs=1e-2)


@pytest.mark.parametrize(
    "gate", [lambda: ObjectDirichletGate(2, concentration=20.0), lambda: NeuralGate(2, zero_layer())]
)
def test_runs_of_other_parts_are_those_of_plain_em(gate: Callable[[], Any]) -> None:
    """Per-object posteriors, and networks that are trained by gradient."""
    problem = lines(lambda: MixtureOfExperts(gate(), LinearExperts(2, 1)))
    result = fitted(problem, max_iterations=30)
    with plain_em():
        assert fitted(problem, max_iterations=30).trace == result.trace


def zero_layer() -> nn.Module:
    layer = nn.Linear(1, 2).double()
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


@pytest.mark.parametrize("name", ["lines", "gated", "rejected"])
def test_from_any_iteration_on_the_end_is_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the midst of extrapolations, and after one that was taken back."""
    problem = lines(linear, seed=16) if name == "rejected" else PROBLEMS[name]()
    kept: list[bytes] = []
    write = atomic_file.write

    def keep(path: Path, *arguments: object, **options: object) -> None:
        write(path, *arguments, **options)  # type: ignore[arg-type]
        kept.append(Path(path).read_bytes())

    monkeypatch.setattr(atomic_file, "write", keep)
    whole = fitted(problem, checkpoint=tmp_path / "file", checkpoint_seconds=0.0)
    monkeypatch.undo()
    assert fitted(problem).trace == whole.trace
    for state in kept[10:40:3]:
        (tmp_path / "file").write_bytes(state)
        again = fitted(problem, checkpoint=tmp_path / "file", checkpoint_seconds=1e6)
        assert again.trace == whole.trace
        assert torch.equal(again.responsibilities, whole.responsibilities)


def test_restarts_that_reach_one_optimum_are_recognised() -> None:
    problem = lines(linear)
    with plain_em():
        plain = fit(linear(), problem.x, problem.y, progress=False)
    fast = fit(linear(), problem.x, problem.y, progress=False)
    assert fast.bound == pytest.approx(plain.bound, abs=2e-5)
    assert fast.n_reached_best() >= plain.n_reached_best()
    assert math.isclose(fast.optima[0].bound, fast.bound)


def test_an_extrapolation_reads_no_number() -> None:
    """On a device without values to read, as on a GPU, which would wait."""
    n_runs = 3
    mixture = linear().to("meta")
    rows = torch.ones(50, 1, device="meta")
    table = Table(rows, rows, rows, None).with_columns(mixture.experts)
    accelerator = Accelerator(mixture, table)
    paces = [Pace(is_watched=True, is_near=number > 0) for number in range(n_runs)]
    with torch.no_grad():
        start = em.start(mixture, table, torch.rand(50, 2, device="meta"))
        state = nested.stack([start.state] * n_runs)
        step: em.EStep | em.Snapshot = nested.stack([start] * n_runs)
        for _ in range(4):
            state = accelerator.updated(state, step, lambda *_: None, paces)
            step = em.e_step(mixture, state, table, n_runs=n_runs)
            _, steps = accelerator.judged(state, [1.0] * n_runs, [0.0] * n_runs)
    assert steps == [Step.PLAIN, Step.EXTRAPOLATED, Step.EXTRAPOLATED]
    assert {tensor.device.type for tensor in nested.tensors(state)} == {"meta"}
