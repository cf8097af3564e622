"""What a handler of a signal raises passes through as itself wherever errors are put in other words."""

import errno
import functools
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, fit, load, save
from mixpyro.arguments.signals import pass_on

pytestmark = [
    pytest.mark.usefixtures("without_type_checks"),
    # Python drops what a handler raises in a destructor.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class OfTheCaller(RuntimeError):
    """What the caller's timer raises."""


def handler(number: int, frame: object) -> None:
    raise OfTheCaller("`path` is late")


class Handler:
    """A handler that is no function."""

    def __call__(self, number: int, frame: object) -> None:
        raise OfTheCaller("late")

    def method(self, number: int, frame: object) -> None:
        raise OfTheCaller("late")


@pytest.fixture
def set_handler() -> Iterator[Callable[[Any], Any]]:
    before = signal.getsignal(signal.SIGALRM)
    yield functools.partial(signal.signal, signal.SIGALRM)
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("function", [handler, functools.partial(handler), Handler(), Handler().method])
def test_what_a_handler_raises_is_told_from_other_errors(function: Any, set_handler: Callable[[Any], Any]) -> None:
    set_handler(function)
    with pytest.raises(OfTheCaller):
        try:
            signal.raise_signal(signal.SIGALRM)
        except OfTheCaller as error:
            converted = ValueError("damaged")
            converted.__cause__ = error
            pass_on(converted)
    pass_on(ValueError("damaged"))


class LeftBadly:
    """A context that raises an error of its own where it is left by one."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        raise ValueError("nothing to pop")


def work(context: Any) -> None:
    try:
        with context:
            signal.raise_signal(signal.SIGALRM)
    except Exception as error:
        pass_on(error)
        raise


def test_what_a_handler_raises_passes_an_error_of_the_context_it_leaves(set_handler: Callable[[Any], Any]) -> None:
    set_handler(handler)
    with pytest.raises(OfTheCaller):
        work(LeftBadly())


def test_what_the_caller_handles_already_is_not_raised_again(set_handler: Callable[[Any], Any]) -> None:
    set_handler(handler)
    try:
        signal.raise_signal(signal.SIGALRM)
    except OfTheCaller:
        set_handler(signal.SIG_IGN)
        with pytest.raises(ValueError, match="nothing to pop"):
            work(LeftBadly())


def test_other_errors_are_not_taken_for_those_of_handlers() -> None:
    """An enumeration makes its members as it makes SIG_DFL, and a file system out of reach raises a TimeoutError."""
    with pytest.raises(ValueError, match="99999 is not a valid") as found:
        signal.Signals(99999)
    pass_on(found.value)
    pass_on(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))
    with pytest.raises(TimeoutError, match="late"):
        pass_on(TimeoutError("late"))


def test_a_timer_of_the_caller_ends_a_load_with_its_own_error(
    tmp_path: Path, set_handler: Callable[[Any], Any]
) -> None:
    path = tmp_path / "model.pt"
    save(MixtureOfExperts(DirichletGate(2), LinearExperts(2, 2)), path)
    set_handler(handler)
    ends = set()
    for moment in range(300):
        try:
            signal.setitimer(signal.ITIMER_REAL, 1e-5 * (moment + 1))
            load(path)
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        except Exception as error:
            ends.add(type(error))
    assert ends == {OfTheCaller}


@pytest.mark.filterwarnings("ignore:the prior of the coefficients:RuntimeWarning")
def test_a_timer_ends_a_fit_while_it_writes_its_checkpoint(tmp_path: Path, set_handler: Callable[[Any], Any]) -> None:
    """An error that is an OSError too says nothing of the disk."""

    def late(number: int, frame: object) -> None:
        raise TimeoutError("late")

    set_handler(late)
    x = torch.linspace(-1.0, 1.0, 40, dtype=torch.float64).unsqueeze(1)
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    with pytest.raises(TimeoutError, match="late"):
        for number in range(100):
            path = tmp_path / f"{number}.pt"
            fit(mixture, x, x[:, 0].abs(), n_restarts=2, checkpoint=path, checkpoint_seconds=0.0, progress=False)
