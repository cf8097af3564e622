"""Pyro's state of the process, which one thread at a time may set aside for a program of its own."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyro
from pyro.poutine.runtime import _DIM_ALLOCATOR, _PYRO_STACK


class _PyroState(NamedTuple):
    """What a program of this library changes in Pyro while it runs."""

    parameters: Any  # the state of the parameter store
    module_local_params: Any  # a setting
    handlers: list[Any]  # the stack of handlers
    plates: list[Any]  # that the program is in, by dimension

    @classmethod
    def now(cls) -> "_PyroState":
        """Return the state at this moment."""
        setting = pyro.settings.get("module_local_params")
        return cls(pyro.get_param_store().get_state(), setting, list(_PYRO_STACK), list(_DIM_ALLOCATOR._stack))

    def put_back(self) -> None:
        """Let Pyro be in this state."""
        pyro.clear_param_store()
        pyro.get_param_store().set_state(self.parameters)
        pyro.settings.set(module_local_params=self.module_local_params)
        _PYRO_STACK[:], _DIM_ALLOCATOR._stack[:] = self.handlers, self.plates


class OneThread:
    """The right to change Pyro's parameter store, settings and handlers, which one thread has at a time.

    A child of a fork has a copy of all that, but of the threads only the one that forked. Where another one had the
    right, the child gets it, and Pyro's state as that thread found it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._owner: int | None = None
        self._before: _PyroState | None = None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other thread has the right, and have it inside."""
        with self._lock:
            if self._owner is not None:
                yield
                return
            self._before = _PyroState.now()
            self._owner = threading.get_ident()
            try:
                yield
            finally:
                self._owner = self._before = None

    def after_fork(self) -> None:
        """Take the right from a thread that the child of a fork does not have."""
        if self._owner == threading.get_ident():
            return
        self._lock = threading.RLock()
        if self._owner is not None and self._before is not None:
            self._before.put_back()
        self._owner = self._before = None


ONE_THREAD = OneThread()
# Not on Windows, which has no fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ONE_THREAD.after_fork)
