"""When the values in a tensor are checked."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pyro.distributions import is_validation_enabled

_CHECKED_ALREADY = ContextVar("mixpyro_checked_already", default=False)


def checks_values() -> bool:
    """Return whether to check values: while Pyro's validation is on, outside :func:`checked_already`."""
    return bool(is_validation_enabled()) and not _CHECKED_ALREADY.get()


@contextmanager
def checked_already(already: bool = True) -> Iterator[None]:
    """Skip the checks of values inside, which the caller has made; on a GPU each check would wait for the device.

    Args:
        already: False makes the checks again, for values that are new.
    """
    token = _CHECKED_ALREADY.set(already)
    try:
        yield
    finally:
        _CHECKED_ALREADY.reset(token)
