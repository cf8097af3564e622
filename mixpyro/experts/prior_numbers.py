"""Numbers of a prior, as its buffers take them."""

import torch
from torch import Tensor

from mixpyro import arguments


def scalar(number: float) -> Tensor:
    """Return a number as a float64 tensor on the CPU.

    Args:
        number: of a prior.
    """
    return torch.tensor(number, dtype=torch.float64, device="cpu")


def degrees_above(least: float, words: str, name: str, value: object) -> float:
    """Return degrees of freedom with which the prior of a covariance is a density.

    Args:
        least: what they must exceed, at least 0.
        words: what that is.
        name: of the argument, for messages.
        value: what the user passed.

    Raises:
        TypeError: if it is no number.
        ValueError: if it is not above the least.
    """
    number = arguments.positive_number(name, value)
    if number <= least:
        raise ValueError(f"`{name}` must be above {least:g}, {words}; got {number:g}.")
    return number
