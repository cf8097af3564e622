"""Checks of vectors and matrices given as numbers."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mixpyro.arguments.dense import dense
from mixpyro.arguments.messages import shown
from mixpyro.arguments.signals import pass_on
from mixpyro.arguments.torch_contexts import normal


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


def positive_vector(name: str, value: object, length: int) -> Tensor:
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


def no_modules(**values: object) -> None:
    """Refuse modules where numbers belong, before an attribute takes them: Pyro would give them other names.

    Args:
        **values: what the user passed, by the names of arguments.

    Raises:
        TypeError: if one is a module.
    """
    for name, value in values.items():
        if isinstance(value, nn.Module):
            raise TypeError(f"`{name}` must be a number or numbers; got {shown(value)}.")


def _float64(name: str, value: object, wanted: str) -> Tensor:
    """Copy numbers to a float64 tensor."""
    if isinstance(value, Tensor):
        given = dense(name, value).detach()
        if given.dtype == torch.bool or given.is_complex():
            raise TypeError(f"`{name}` must be {wanted}; got {given.dtype}.")
        return normal(given).to(torch.float64, copy=True)
    try:
        # A default device would take the numbers away.
        numbers = torch.as_tensor(_as_array(value), dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        pass_on(error)
        raise TypeError(f"`{name}` must be {wanted}; got {shown(value)}.") from error
    return numbers.clone()


def _as_array(value: object) -> object:
    """Return numbers of another library, such as a Series, as an array; any other value as it is.

    Raises:
        TypeError: if the values are true or false, or complex.
    """
    numbers = np.array(value) if hasattr(value, "__array__") or isinstance(value, bool) else value
    if isinstance(numbers, np.ndarray) and numbers.dtype.kind not in "iuf":
        raise TypeError(f"numbers must be real; got {numbers.dtype}")
    if isinstance(numbers, list | tuple) and any(isinstance(one, bool) for one in numbers):
        raise TypeError("numbers must not be True or False")
    return numbers
