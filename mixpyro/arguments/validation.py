"""When the values in a tensor are checked."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pyro.distributions import is_validation_enabled
from torch import Tensor

_ROWS_ARE_CHECKED: ContextVar[bool] = ContextVar("mixpyro_rows_are_checked", default=False)
_KNOWN_AS_FINITE: ContextVar[list[Tensor] | None] = ContextVar("mixpyro_known_as_finite", default=None)


def checks_values() -> bool:
    """Return whether to check the values in tensors: while Pyro's validation is on."""
    return bool(is_validation_enabled())


@contextmanager
def rows_are_checked() -> Iterator[None]:
    """Let methods of users take rows unread: to read values in a loop of a fit would make it wait for a GPU."""
    token = _ROWS_ARE_CHECKED.set(True)
    try:
        yield
    finally:
        _ROWS_ARE_CHECKED.reset(token)


def has_checked_rows() -> bool:
    """Return whether the caller has checked the rows."""
    return _ROWS_ARE_CHECKED.get()


@contextmanager
def finite_once() -> Iterator[None]:
    """Let each tensor be read once to see that it is finite, where several parts of a model check the same rows."""
    token = _KNOWN_AS_FINITE.set([])
    try:
        yield
    finally:
        _KNOWN_AS_FINITE.reset(token)


def known_as_finite() -> list[Tensor] | None:
    """Return the tensors that were found to be finite inside :func:`finite_once`, to be added to; None outside."""
    return _KNOWN_AS_FINITE.get()
