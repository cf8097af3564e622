"""Ctrl-C."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Generator

from mixpyro import (
    DirichletGate,
    FitResult,
    LinearExperts,
    MixtureOfExperts,
    ObjectDirichletGate,
    StreamingFit,
    fit,
    fit_minibatches,
)
from mixpyro.fitting.interrupts import stop_on_request
from mixpyro.fitting.starts import random_subsets
from mixpyro.fitting.table import Table
from mixpyro.shapes import Inputs, Outputs, Responsibilities
from tests.problems import lines


@pytest.fixture(autouse=True)
def _default_handler() -> Iterator[None]:
    """As in a terminal: a shell starts its background jobs with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class PressesControlC:
    """A start that presses Ctrl-C when it is asked for the n-th time."""

    def __init__(self, when: int) -> None:
        self.asked, self.when = 0, when

    def __call__(self, mixture: MixtureOfExperts, x: Inputs, y: Outputs, generator: Generator) -> Responsibilities:
        """As random subsets."""
        if self.asked == self.when:
            signal.raise_signal(signal.SIGINT)
        self.asked += 1
        return random_subsets(mixture, x, y, generator)


class PressesAsAFileSays:
    """A start that presses Ctrl-C when it is asked for the n-th time; n is in a file, so that all are one start."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, mixture: MixtureOfExperts, x: Inputs, y: Outputs, generator: Generator) -> Responsibilities:
        """As random subsets."""
        left = int(self.file.read_text())
        if left == 0:
            signal.raise_signal(signal.SIGINT)
        self.file.write_text(str(left - 1))
        return random_subsets(mixture, x, y, generator)


def fit_pressing(mixture: MixtureOfExperts, when: int, folder: Path, **options: int) -> FitResult:
    """Fit with a checkpoint, and press Ctrl-C when a start is made for the n-th time."""
    x, y, _ = lines(60, 2)
    (folder / "presses").write_text(str(when))
    start = PressesAsAFileSays(folder / "presses")
    return fit(mixture, x, y, starts=[start], checkpoint=folder / "file", **options)  # type: ignore[arg-type]


def make() -> MixtureOfExperts:
    """A small mixture."""
    return MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))


@pytest.mark.parametrize("when", [0, 2])
def test_a_fit_ends_with_what_it_has(when: int) -> None:
    x, y, _ = lines(60, 2)
    mixture = make()
    with pytest.warns(RuntimeWarning) as caught:
        result = fit(mixture, x, y, starts=[PressesControlC(when)], n_restarts=10, n_candidates=1)
    assert any("interrupted when 0 of 10 restarts had converged" in str(warning.message) for warning in caught)
    assert result.interrupted
    # They are iterated together: each has had its first iteration.
    assert [len(run.trace) for run in result.runs] == [1] * 10
    assert float(mixture.bound(x, y)) == pytest.approx(result.bound, abs=1e-9)
    torch.testing.assert_close(mixture.assign(x, y).responsibilities, result.responsibilities)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_runs_one_after_the_other_end_with_those_that_there_are() -> None:
    x, y, _ = lines(60, 2)
    mixture = MixtureOfExperts(ObjectDirichletGate(2), LinearExperts(2, 1))
    with pytest.warns(RuntimeWarning) as caught:
        result = fit(mixture, x, y, starts=[PressesControlC(2)], n_restarts=10, n_candidates=1)
    n_converged = sum(run.converged for run in result.runs)
    said = f"interrupted when {n_converged} of 10 restarts had converged"
    assert any(said in str(warning.message) for warning in caught)
    assert len(result.runs) == 3
    assert [len(run.trace) > 1 for run in result.runs] == [True, True, False]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("n_candidates", [1, 3])
def test_an_interrupted_fit_goes_on_from_its_checkpoint(tmp_path: Path, n_candidates: int) -> None:
    x, y, _ = lines(60, 2)
    whole = fit(make(), x, y, starts=[random_subsets], n_restarts=5, n_candidates=n_candidates)
    options = {"n_restarts": 5, "n_candidates": n_candidates}
    interrupted, resumed = (fit_pressing(make(), when, tmp_path, **options) for when in (4, -1))
    assert interrupted.interrupted
    assert not resumed.interrupted
    assert [run.trace for run in resumed.runs] == [run.trace for run in whole.runs]


def test_the_second_time_it_raises() -> None:
    with pytest.raises(KeyboardInterrupt), stop_on_request() as requested:
        assert not requested()
        signal.raise_signal(signal.SIGINT)
        assert requested()
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_fit_in_a_coroutine_ends_with_what_it_has() -> None:
    """The handler of asyncio.run would cancel a task that does not wait."""
    x, y, _ = lines(60, 2)

    async def main() -> FitResult:
        result = fit(make(), x, y, starts=[PressesControlC(2)], n_restarts=10, n_candidates=1)
        await asyncio.sleep(0)
        return result

    result = asyncio.run(main())
    assert result.interrupted
    assert [len(run.trace) for run in result.runs] == [1] * 10


def test_the_search_on_a_first_batch_ends_with_what_it_has() -> None:
    x, y, _ = lines(60, 2)
    presses = PressesControlC(2)
    with pytest.MonkeyPatch.context() as patch, pytest.warns(RuntimeWarning, match="interrupted after 20 restarts"):
        patch.setattr("mixpyro.fitting.first_batch.DEFAULT_STARTS", [presses])
        stream = StreamingFit(make()).partial_fit(x, y)
    assert stream.n_seen == 60
    assert bool(stream.mixture.log_prob(x, y).isfinite().all())


def test_a_handler_of_the_users_own_stays() -> None:
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        with stop_on_request() as requested:
            signal.raise_signal(signal.SIGINT)
            assert not requested()
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [1]


@pytest.mark.filterwarnings("ignore:the noise of component", "ignore:only one of")
def test_another_thread_fits_too() -> None:
    x, y, _ = lines(30, 2)
    bounds = []
    thread = threading.Thread(target=lambda: bounds.append(fit(make(), x, y, n_restarts=3).bound))
    thread.start()
    thread.join()
    assert bounds == [fit(make(), x, y, n_restarts=3).bound]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_same_call_goes_on_in_the_same_mixture(tmp_path: Path) -> None:
    """As a cell of a notebook is run again: after Ctrl-C, and once more when all is done."""
    x, y, _ = lines(60, 2)
    whole = fit(make(), x, y, starts=[random_subsets], n_restarts=5)
    mixture = make()
    results = [fit_pressing(mixture, when, tmp_path, n_restarts=5) for when in (7, -1, -1)]
    assert [result.interrupted for result in results] == [True, False, False]
    for result in results[1:]:
        assert [run.trace for run in result.runs] == [run.trace for run in whole.runs]
        assert torch.equal(result.responsibilities, whole.responsibilities)


def test_a_fit_in_batches_ends_with_what_it_has() -> None:
    x, y, _ = lines(2000, 2)
    mixture = make()
    learn, calls = StreamingFit.learn, []

    def pressing(stream: StreamingFit, table: Table) -> None:
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        learn(stream, table)

    with pytest.MonkeyPatch.context() as patch, pytest.warns(RuntimeWarning, match="interrupted in epoch 1 of 5"):
        patch.setattr("mixpyro.fitting.streaming.StreamingFit.learn", pressing)
        result = fit_minibatches(mixture, x, y, batch_size=200, n_restarts=1)
    assert result.interrupted
    assert float(mixture.bound(x, y)) == pytest.approx(result.bound, abs=1e-6)
    assert len(calls) == 3
