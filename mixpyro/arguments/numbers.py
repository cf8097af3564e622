"""Checks of numbers, and of vectors and matrices given as numbers."""

from collections.abc import Sequence
from numbers import Integral, Real

import torch
from torch import Tensor

from mixpyro.arguments.torch_contexts import normal

# Of a scale of a prior: beyond them the square leaves what float64 can add to sums over rows.
LEAST_NUMBER, LARGEST_NUMBER = 1e-10, 1e10


def integer(name: str, value: object, *, least: int = 1) -> int:
    """Return an integer.

    Args:
        name: of the argument, for messages.
        value: what the user passed.
        least: the smallest value allowed.

    Raises:
        TypeError: if ``value`` is not an integer; True and False are not.
        ValueError: if it is below ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"`{name}` must be an integer; got {value!r} of type {type(value).__name__}.")
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}; got {value}.")
    return int(value)


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
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be a number; got {value!r} of type {type(value).__name__}.")
    number = float(value)
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


def vector(name: str, value: object, length: int) -> Tensor:
    """Return a vector of finite numbers.

    Args:
        name: of the argument, for messages.
        value: a number, which is repeated, or ``length`` numbers.
        length: of the vector.

    Returns:
        A new float64 tensor [length].

    Raises:
        TypeError: if ``value`` is not a number or numbers.
        ValueError: if it has another length, or is not finite.
    """
    numbers = _float64(name, value, f"a number or {length} numbers")
    if numbers.ndim == 0:
        numbers = numbers.repeat(length)
    if numbers.shape != (length,):
        raise ValueError(f"`{name}` must be a number or a vector of length {length}; got shape {list(numbers.shape)}.")
    if not torch.isfinite(numbers).all():
        raise ValueError(f"`{name}` must be finite; got {numbers.tolist()}.")
    return numbers


def positive_vector(name: str, value: float | Sequence[float] | Tensor, length: int) -> Tensor:
    """Return a vector of finite positive numbers.

    Args:
        name: of the argument, for messages.
        value: a number, which is repeated, or ``length`` numbers.
        length: of the vector.

    Returns:
        A new float64 tensor [length].

    Raises:
        TypeError: if ``value`` is not a number or numbers.
        ValueError: if it has another length, is not finite or not above 0.
    """
    numbers = vector(name, value, length)
    if not (numbers > 0).all():
        raise ValueError(f"`{name}` must be finite and above 0; got {numbers.tolist()}.")
    return numbers


def positive_definite(name: str, value: object, size: int) -> Tensor:
    """Return a symmetric positive definite matrix.

    Args:
        name: of the argument, for messages.
        value: a number or ``size`` numbers for a diagonal, or a matrix.
        size: rows and columns of the matrix.

    Returns:
        A new float64 tensor [size, size].

    Raises:
        TypeError: if ``value`` is not numbers.
        ValueError: if it has another shape, or is not symmetric positive definite.
    """
    matrix = _float64(name, value, "a number, numbers or a matrix")
    if matrix.ndim < 2:
        return torch.diag(positive_vector(name, matrix, size))
    if matrix.shape != (size, size):
        raise ValueError(
            f"`{name}` must be a number, {size} numbers or a matrix [{size}, {size}]; got shape {list(matrix.shape)}."
        )
    if not torch.equal(matrix, matrix.mT) or int(torch.linalg.cholesky_ex(matrix).info) != 0:
        raise ValueError(f"`{name}` must be symmetric positive definite; got {matrix.tolist()}.")
    return matrix


def filled(name: str, value: float | Sequence[float] | Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return finite numbers repeated to a shape.

    Args:
        name: of the argument, for messages.
        value: a number, or numbers with the last axes of ``shape``.
        shape: of the result.

    Returns:
        A new float64 tensor of ``shape``.

    Raises:
        TypeError: if ``value`` is not numbers.
        ValueError: if its axes are not the last ones of ``shape``, or it is not finite.
    """
    numbers = _float64(name, value, "a number or numbers")
    if numbers.shape != shape[len(shape) - numbers.ndim :]:
        wanted = ", ".join(str(list(shape[first:])) for first in range(len(shape)))
        raise ValueError(f"`{name}` must be a number or have shape {wanted}; got shape {list(numbers.shape)}.")
    if not torch.isfinite(numbers).all():
        raise ValueError(f"`{name}` must be finite; got {numbers.tolist()}.")
    return numbers.expand(shape).clone()


def representable(name: str, value: Tensor) -> Tensor:
    """Return positive numbers after a conversion to the dtype that a user chose.

    Args:
        name: of the argument that the numbers came from, for messages.
        value: the converted numbers, of any shape.

    Raises:
        TypeError: if the dtype is not floating.
        ValueError: if a number has become zero.
    """
    if not value.is_floating_point():
        raise TypeError(f"`dtype` must be a floating dtype; got {value.dtype}.")
    if not bool((value > 0).all()):
        raise ValueError(f"`{name}` must be above 0 in {value.dtype}; got {value.tolist()}. Use a larger dtype.")
    return value


def _float64(name: str, value: object, wanted: str) -> Tensor:
    """Copy numbers to a float64 tensor."""
    try:
        # A default device would take the numbers away.
        given = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64, device="cpu")
        return normal(given.detach()).to(torch.float64, copy=True)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"`{name}` must be {wanted}; got {value!r}.") from error
