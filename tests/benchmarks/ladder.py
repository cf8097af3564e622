"""Refinement with or without NUTS, which takes minutes for a data set: hundreds of them would take a day."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

from mixpyro import FitResult, Refined, refine

_WITH_NUTS = ContextVar("with_nuts", default=False)


def refined(result: FitResult, x: Tensor, y: Tensor, *, seed: int) -> Refined:
    """Refine a fit, by NUTS only inside :func:`with_nuts`."""
    return refine(result, x, y, seed=seed, progress=False, nuts=_WITH_NUTS.get())


@contextmanager
def with_nuts(wanted: bool) -> Iterator[None]:
    """Let refinements inside climb to NUTS, if that is wanted."""
    token = _WITH_NUTS.set(wanted)
    try:
        yield
    finally:
        _WITH_NUTS.reset(token)


def rung_of(refinement: Refined) -> str:
    """Return where the ladder ended, and whether it should have gone on."""
    return refinement.rung + (" with k-hat above 0.7" if refinement.rung != "NUTS" and refinement.khat > 0.7 else "")
