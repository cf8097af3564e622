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
