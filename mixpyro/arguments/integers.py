"""Checks of integers, such as components and numbers of objects."""

from collections.abc import Sequence
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from mixpyro.arguments.data import a_tensor
from mixpyro.arguments.dense import dense
from mixpyro.arguments.messages import shown


def integers(name: str, value: object) -> Tensor:
    """Return a tensor of integers as int64, which PyTorch takes for indices.

    Args:
        name: of the argument, for messages.
        value: what the user passed, of any shape.

    Raises:
        TypeError: if it is no tensor, or holds something else than integers.
    """
    numbers = a_tensor(name, value)
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
        raise TypeError(f"`{name}` must hold integers; got {numbers.dtype}. Use {name}.long().")
    return numbers.long()


def components(name: str, value: object, n_components: int) -> list[int]:
    """Return the numbers of some components, in their order.

    Args:
        name: of the argument, for messages.
        value: what the user passed: a sequence, an array or a tensor of integers.
        n_components: K.

    Raises:
        TypeError: if it is no sequence of integers.
        ValueError: if it is empty, or a number is there twice, or that of no component.
    """
    given = dense(name, value).tolist() if isinstance(value, Tensor) else value
    given = given.tolist() if isinstance(given, np.ndarray) else given
    is_sequence = isinstance(given, Sequence) and not isinstance(given, str | bytes)
    # One more than there are components is enough to refuse the longest range.
    numbers = list(given[: n_components + 1]) if is_sequence else []  # type: ignore[index]
    if not is_sequence or not all(isinstance(one, Integral) and not isinstance(one, bool) for one in numbers):
        raise TypeError(f"`{name}` must be a sequence of integers; got {shown(value)}.")
    if not numbers or len(set(numbers)) < len(numbers) or not all(0 <= one < n_components for one in numbers):
        raise ValueError(
            f"`{name}` must have different components from 0 to {n_components - 1}, at least one; got {shown(value)}."
        )
    return [int(one) for one in numbers]
