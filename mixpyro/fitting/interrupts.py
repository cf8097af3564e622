"""Ctrl-C as a request to stop, not as a blow."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_request() -> Iterator[Callable[[], bool]]:
    """Inside, the first Ctrl-C makes the function given answer True, and the second raises KeyboardInterrupt.

    In a thread that is not the main one, or where the program has a handler of its own, Ctrl-C stays what it was.
    """
    requests: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if requests:
            raise KeyboardInterrupt
        requests.append(number)

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(requests)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
