"""Pyro's stack of handlers, put back after an interrupt."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyro.poutine.runtime import _DIM_ALLOCATOR, _PYRO_STACK


@contextmanager
def handlers_restored() -> Iterator[None]:
    """Leave Pyro's handlers and the dims of its plates as they were, if what runs inside is broken off.

    An interrupt between entering a plate and leaving it, for which Pyro has no clean-up, would leave the plate's name
    taken for good.
    """
    stack, dims = list(_PYRO_STACK), list(_DIM_ALLOCATOR._stack)
    try:
        yield
    except BaseException:
        _PYRO_STACK[:] = stack
        _DIM_ALLOCATOR._stack[:] = dims
        raise
