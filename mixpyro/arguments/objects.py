"""Checks of which objects rows are."""

import torch
from torch import Tensor

from mixpyro.arguments.integers import integers
from mixpyro.arguments.validation import checks_values


def object_indices(value: object, n_objects: int | None = None, *, n_rows: int | None = None) -> slice | Tensor | None:
    """Return which objects of the last update rows are.

    Args:
        value: what the user passed as ``objects``: None, a slice, or integers [N].
        n_objects: of the last update, where that is known.
        n_rows: how many indices there must be, where that is known.

    Raises:
        TypeError: if it is neither.
        ValueError: if it has another shape or, while values are checked, numbers of no object.
    """
    if value is None or isinstance(value, slice):
        return value
    numbers = integers("objects", value)
    if numbers.ndim != 1:
        raise ValueError(f"`objects` must have shape [N]; got {list(numbers.shape)}.")
    if n_rows is not None and len(numbers) != n_rows:
        raise ValueError(f"`objects` must have an index for each of {n_rows} rows; got {len(numbers)}.")
    if n_objects is not None and checks_values() and numbers.numel():
        low, high = (int(one) for one in torch.aminmax(numbers))
        if low < -n_objects or high >= n_objects:
            raise ValueError(f"`objects` must be below {n_objects}, the objects of the last update; got {high}.")
    return numbers
