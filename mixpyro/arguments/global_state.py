"""State of the process that work changes for a while, kept so that it can be put back."""

import warnings
from collections.abc import Callable

import torch


def global_state() -> Callable[[], None]:
    """Keep the warnings filters and torch's random state, and return a function that puts them back.

    Contexts do so too, unless an interrupt comes while they are entered or left.
    """
    filters, entries, random_state = warnings.filters, list(warnings.filters), torch.get_rng_state()

    def put_back() -> None:
        if warnings.filters is not filters or list(filters) != entries:
            warnings.filters = filters
            warnings.filters[:] = entries  # type: ignore[index]
            warnings._filters_mutated()  # type: ignore[attr-defined]
        if not torch.equal(torch.get_rng_state(), random_state):
            torch.set_rng_state(random_state)

    return put_back
