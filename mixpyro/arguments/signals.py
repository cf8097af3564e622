"""Signals, such as Ctrl-C, that are held back while objects are changed."""

import functools
import inspect
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import CodeType, FrameType
from typing import Any, ParamSpec, TypeVar

from mixpyro.arguments.global_state import global_state

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# Signals whose handlers may raise: Ctrl-C, a request to end, timers, and those that programs give a meaning.
NAMES = ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2")
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
# Whether the caller puts back what this call changes.
_IS_UNDONE: ContextVar[bool] = ContextVar("mixpyro_is_undone", default=False)


class Signals:
    """Handlers of signals, which are called at once, or where they are held back, later.

    Only the main thread runs handlers; in any other thread this does nothing. A handler that raises holds back all
    later signals, so that nothing disturbs what follows the exception.

    Attributes:
        held: whether signals are held back.
    """

    def __init__(self) -> None:
        self.held = True
        self._pending: list[int] = []
        self._handlers: dict[int, Callable[..., Any]] = {}

    def take_over(self) -> None:
        """Take the place of the handlers, and hold signals back."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):
                self._handlers[number] = handler
                signal.signal(number, self._heard)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        """Keep a signal, or call its handler."""
        if self.held:
            self._pending.append(number)
            return
        self.held = True
        self._handlers[number](number, frame)
        self.held = False

    def deliver(self) -> None:
        """Call the handlers of signals that were held back."""
        while self._pending:
            number = self._pending.pop(0)
            self._handlers[number](number, None)

    def give_back(self) -> None:
        """Call the handlers of signals that were held back, and put the handlers back, that of Ctrl-C last.

        One that the program has replaced meanwhile stays replaced.
        """
        try:
            self.deliver()
        finally:
            for number in reversed(self._handlers):
                if signal.getsignal(number) == self._heard:
                    signal.signal(number, self._handlers[number])
        self.deliver()


def pass_on(error: BaseException) -> None:
    """Raise what a handler of a signal has raised, if that is behind an error: it is the caller's own, as of a timer.

    To call wherever errors are put in other words, or lead to something else than an error.

    Args:
        error: that was caught.
    """
    handlers = (Signals._heard, Signals.deliver, *(signal.getsignal(number) for number in SIGNALS))
    codes = {code for handler in handlers if (code := _code_of(handler)) is not None}
    around = set() if error.__traceback__ is None else _frames_around(error.__traceback__.tb_frame)
    found: BaseException | None = error
    while found is not None:
        if _is_of_a_timer(found) or any(one.f_code in codes for one, _ in traceback.walk_tb(found.__traceback__)):
            raise found from None
        found = _behind(found, around)


def _frames_around(frame: FrameType) -> set[FrameType]:
    """Return the frames that have called one."""
    found = set()
    while frame.f_back is not None:
        frame = frame.f_back
        found.add(frame)
    return found


def _behind(error: BaseException, around: set[FrameType]) -> BaseException | None:
    """Return what an error came of, or came upon in a ``with`` that could not be left then.

    Args:
        error: that was raised.
        around: frames that run on. What one of them handles was raised before the work began.
    """
    if error.__cause__ is not None:
        return error.__cause__
    before = error.__context__
    began = None if before is None or before.__traceback__ is None else before.__traceback__.tb_frame
    return None if began is None or began in around else before


def _is_of_a_timer(error: BaseException) -> bool:
    """Return whether a timer has raised an error; it may have put back the handler before.

    An error of a file system that is out of reach has a number, too.
    """
    return isinstance(error, TimeoutError) and error.errno is None


def _code_of(handler: Any) -> CodeType | None:  # noqa: ANN401 (anything that can be called, or a constant)
    """Return the code of a handler; None if it has none in Python."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    # Of its class alone: the class of SIG_DFL has one of its own, which makes all enumerations.
    of_class = next((vars(kind)["__call__"] for kind in type(handler).__mro__ if "__call__" in vars(kind)), None)
    called = handler if hasattr(handler, "__code__") else of_class
    # Without decorators, whose code is that of other functions too.
    code = getattr(inspect.unwrap(called) if callable(called) else called, "__code__", None)
    return code if isinstance(code, CodeType) else None


def undone_if_it_raises(work: Callable[[], Result], kept: Callable[[], Callable[[], None]]) -> Result:
    """Do work that changes objects; if it raises, or is interrupted, put them back as they were.

    So are warnings filters and torch's random state.

    A signal may interrupt the work, but neither the end of it nor what puts the objects back. Work inside of such work
    is done without: what called it puts the objects back.

    Args:
        work: changes objects.
        kept: keeps what the objects are, and returns what puts them back.

    Returns:
        What the work returns.
    """
    if _IS_UNDONE.get():
        return work()
    signals, put_back = Signals(), None
    try:
        signals.take_over()
        put_back = _all(global_state(), kept())
        _IS_UNDONE.set(True)
        result = _interruptible(work, signals)
        _IS_UNDONE.set(False)
        # While later signals are held back: those that came may undo the work yet.
        signals.deliver()
        signals.give_back()
        return result
    except BaseException:
        signals.held = True
        _IS_UNDONE.set(False)
        if put_back is not None:
            put_back()
        signals.give_back()
        raise


def _all(*functions: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls others one after the other."""

    def call() -> None:
        for function in functions:
            function()

    return call


def _interruptible(work: Callable[[], Result], signals: Signals) -> Result:
    """Do work in which signals are not held back; they are from its end on, however it ends."""
    try:
        signals.held = False
        return work()
    finally:
        signals.held = True


@contextmanager
def held_at_the_end() -> Iterator[Signals]:
    """Yield signals that interrupt the work inside until it sets ``held``, and are delivered after it."""
    signals = Signals()
    try:
        signals.take_over()
        signals.held = False
        yield signals
    finally:
        signals.held = True
        signals.give_back()


def without_interruption(work: Callable[[], Result]) -> Result:
    """Do short work that no signal interrupts; a signal that comes is delivered after it.

    Args:
        work: takes less than a second.

    Returns:
        What the work returns.
    """
    signals = Signals()
    try:
        signals.take_over()
        return work()
    finally:
        signals.give_back()


def uninterrupted(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a function whose work no signal may interrupt, as what many processes do together.

    Args:
        function: as the work of :func:`without_interruption`.
    """

    @functools.wraps(function)
    def called(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return without_interruption(lambda: function(*args, **kwargs))

    return called
