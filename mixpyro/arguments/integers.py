"""Checks of tensors of integers, such as components and numbers of objects."""

import torch
from torch import Tensor

from mixpyro.arguments.data import a_tensor


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
