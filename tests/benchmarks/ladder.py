"""Refinement that ends before NUTS, which takes minutes for a data set: hundreds of them would take a day."""

from collections.abc import Iterator
from contextlib import contextmanager

from mixpyro.refinement.importance import Weighted
from mixpyro.refinement.refine import _Ladder
from mixpyro.refinement.refined import Refined

LEFT_OUT = "importance sampling with k-hat above 0.7"


def by_weights(ladder: _Ladder, found: Weighted, history: list[float], n_draws: int) -> Refined:
    """Return the draws of the last round of importance sampling."""
    return ladder._refined(found.resampled(n_draws).unsqueeze(0), LEFT_OUT, "NUTS left out", history[-1])


@contextmanager
def without_nuts() -> Iterator[None]:
    """End every refinement at importance sampling."""
    method = _Ladder._by_nuts
    _Ladder._by_nuts = by_weights  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        _Ladder._by_nuts = method  # type: ignore[method-assign]
