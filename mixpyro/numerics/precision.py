"""Conversions that keep digits."""

import torch
from torch import Tensor


def at_least(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Return values in a dtype, or as they are where theirs is more precise.

    What is normalised in the precision that goes out, or in a higher one, sums to one in it.

    Args:
        values: of a floating dtype.
        dtype: a floating one.
    """
    return values.to(torch.promote_types(values.dtype, dtype))


def in_range(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """Return numbers in a dtype; those beyond its range, or infinite, as the largest that it has.

    A mean of exp(η) is finite for every η, and its product with a weight of zero is zero.

    Args:
        numbers: of any shape.
        dtype: a floating one.
    """
    largest = torch.finfo(dtype).max
    return numbers.clamp(-largest, largest).to(dtype)
