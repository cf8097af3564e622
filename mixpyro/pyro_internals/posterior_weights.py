"""Programs in which gates draw their weights from their posterior instead of their prior."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_FROM_POSTERIOR: ContextVar[frozenset[int]] = ContextVar("mixpyro_from_posterior", default=frozenset())


@contextmanager
def weights_from_posterior(*gates: Any) -> Iterator[None]:  # noqa: ANN401 (a Gate imports this module)
    """Let the models of gates draw the weights from their posterior, inside.

    Args:
        *gates: gates of the program.
    """
    token = _FROM_POSTERIOR.set(_FROM_POSTERIOR.get() | {id(gate) for gate in gates})
    try:
        yield
    finally:
        _FROM_POSTERIOR.reset(token)


def draws_from_posterior(gate: object) -> bool:
    """Return whether a gate's model draws the weights from their posterior.

    Args:
        gate: any gate.
    """
    return id(gate) in _FROM_POSTERIOR.get()
