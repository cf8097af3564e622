"""Checks of single numbers."""

import math
from numbers import Integral, Real

import numpy as np
from torch import Tensor

from mixpyro.arguments.dense import dense
from mixpyro.arguments.messages import shown

# Of a scale of a prior: beyond them the square leaves what float64 can add to sums over rows.
LEAST_NUMBER, LARGEST_NUMBER = 1e-10, 1e10
# Of an axis: a tensor of one number for each takes 80 MB.
LARGEST_SIZE = 10**7
# Beyond it PyTorch reads no integer.
LARGEST_INTEGER = 2**63 - 1


def flag(name: str, value: object) -> bool:
    """Return a truth value.

    Args:
        name: of the argument, for messages.
        value: what the user passed: True or False, of Python or NumPy.

    Raises:
        TypeError: if it is something else, which would count as true or false by chance.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be True or False; got {shown(value)} of type {type(value).__name__}.")
    return bool(value)


def integer(name: str, value: object, *, least: int = 1, most: int = LARGEST_INTEGER) -> int:
    """Return an integer.

    Args:
        name: of the argument, for messages.
        value: what the user passed.
        least: the smallest value allowed.
        most: the largest value allowed.

    Raises:
        TypeError: if ``value`` is not an integer; True and False are not.
        ValueError: if it is below ``least`` or above ``most``.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"`{name}` must be an integer; got {shown(value)} of type {type(value).__name__}.")
    number = int(value)
    if number < least:
        raise ValueError(f"`{name}` must be at least {least}; got {shown(number)}.")
    if number > most:
        raise ValueError(f"`{name}` must be at most {most}; got {shown(number)}.")
    return number


def size(name: str, value: object, *, least: int = 1) -> int:
    """Return the length of an axis of tensors that are made for it.

    Args:
        name: of the argument, for messages.
        value: what the user passed.
        least: the smallest value allowed.

    Raises:
        TypeError: if ``value`` is not an integer.
        ValueError: if it is below ``least`` or above 10⁷: the tensors would not fit into memory.
    """
    return integer(name, value, least=least, most=LARGEST_SIZE)


def positive_number(name: str, value: object, *, zero: bool = False) -> float:
    """Return a finite positive number as a float.

    Args:
        name: of the argument, for messages.
        value: what the user passed; a tensor of one number will do.
        zero: whether zero is allowed, too.

    Raises:
        TypeError: if ``value`` is not a number; True and False are not.
        ValueError: if it is not finite, negative, or zero without ``zero``.
    """
    if isinstance(value, Tensor) and dense(name, value).numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be a number; got {shown(value)} of type {type(value).__name__}.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf if value == abs(value) else -math.inf
    if not (0.0 < number < float("inf") or (zero and number == 0.0)):
        raise ValueError(f"`{name}` must be finite and {'at least' if zero else 'above'} 0; got {number}.")
    return number


def moderate_number(name: str, value: object) -> float:
    """Return a positive number whose square, times or divided by that of data, keeps digits in float64.

    Args:
        name: of the argument, for messages.
        value: what the user passed; a tensor of one number will do.

    Raises:
        TypeError: if ``value`` is not a number.
        ValueError: if it is not from 1e-10 to 1e10.
    """
    number = positive_number(name, value)
    if not LEAST_NUMBER <= number <= LARGEST_NUMBER:
        raise ValueError(
            f"`{name}` must be from {LEAST_NUMBER:.0e} to {LARGEST_NUMBER:.0e}; got {number}. Beyond that, rounding "
            "errors are larger than what the data say; standardise x where the prior is in its units."
        )
    return number


def step_size(value: object) -> float:
    """Return the size of a natural-gradient step.

    Args:
        value: what the user passed as ``step_size``, in (0, 1].

    Raises:
        TypeError: if ``value`` is not a number.
        ValueError: if it is not in (0, 1].
    """
    number = positive_number("step_size", value)
    if number > 1.0:
        raise ValueError(f"`step_size` must be in (0, 1]; got {number}. 1 replaces the posterior by its optimum.")
    return number
