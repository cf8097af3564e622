"""Pyro's stack of handlers and gradients of parameters, put back after an interrupt."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro import poutine
from pyro.infer.util import zero_grads
from pyro.poutine.runtime import _DIM_ALLOCATOR, _PYRO_STACK
from pyro.poutine.uncondition_messenger import UnconditionMessenger
from torch import Tensor


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


@contextmanager
def outside_of_handlers() -> Iterator[None]:
    """Run what is inside as if no handler and no plate of Pyro were around it."""
    stack, dims = list(_PYRO_STACK), list(_DIM_ALLOCATOR._stack)
    _PYRO_STACK[:], _DIM_ALLOCATOR._stack[:] = [], []
    try:
        yield
    finally:
        _PYRO_STACK[:], _DIM_ALLOCATOR._stack[:] = stack, dims


class Replicated(UnconditionMessenger):
    """Sample what a program observes, as ``poutine.uncondition`` does, but leave ``pyro.deterministic`` as it is.

    A deterministic value has the axes of the plates around it already; to sample it would repeat them.
    """

    def _pyro_sample(self, msg: Any) -> None:  # noqa: ANN401 (a message of Pyro)
        if not msg["infer"].get("_deterministic"):
            super()._pyro_sample(msg)


@contextmanager
def gradients_of_parameters() -> Iterator[Callable[[], set[Tensor]]]:
    """Yield a function that returns the parameters of the programs run inside; leave them without gradients.

    Also after an interrupt, whenever it comes.
    """
    captured = poutine.trace(param_only=True)

    def parameters() -> set[Tensor]:
        nodes: dict[str, Any] = dict(captured.trace.nodes)
        return {unconstrained(site["value"]) for site in nodes.values()}

    try:
        with torch.enable_grad(), captured:
            yield parameters
    finally:
        zero_grads(parameters())


def unconstrained(value: Any) -> Tensor:  # noqa: ANN401
    """Return the leaf tensor of a parameter site; with module-local parameters the site holds the leaf itself.

    Args:
        value: of the site.
    """
    return value.unconstrained() if hasattr(value, "unconstrained") else value
