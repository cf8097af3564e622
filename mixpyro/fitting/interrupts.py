"""Ctrl-C turned into a request to stop, in place of an exception."""

import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_request() -> Iterator[Callable[[], bool]]:
    """Inside, the first Ctrl-C makes the function given answer True, and the second raises KeyboardInterrupt.

    So it does under ``asyncio.run``, whose own handler would wait for a loop that a fit holds up. In a thread that is
    not the main one, or where the program has a handler of its own, Ctrl-C stays what it was.
    """
    requests: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if requests:
            raise KeyboardInterrupt
        requests.append(number)

    before = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not (before is signal.default_int_handler or _is_of_asyncio(before)):
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(requests)
    finally:
        signal.signal(signal.SIGINT, before)


def _is_of_asyncio(handler: object) -> bool:
    """Return whether a handler is the one of ``asyncio.run``, which cancels the main task."""
    runner = getattr(sys.modules.get("asyncio"), "Runner", None)
    own = getattr(handler.func, "__self__", None) if isinstance(handler, functools.partial) else None
    return runner is not None and isinstance(own, runner)
