"""Checks of what a user passes in, with one form of message.

`` `argument` must <condition>; got <value>. <next step> ``. Shapes are checked always. Values (finite, non-negative)
are checked while Pyro's own validation is on, and once per fit instead of once per iteration (:func:`checked_already`).
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral, Real
from typing import Any

import torch
from pyro.distributions import is_validation_enabled
from torch import Tensor

_CHECKED_ALREADY = ContextVar("mixpyro_checked_already", default=False)


@contextmanager
def checked_already(already: bool = True) -> Iterator[None]:
    """Leave out the checks of values inside: the caller has made them, and on a GPU each would cost a wait.

    With ``False``, make them again, of what has come about since.
    """
    token = _CHECKED_ALREADY.set(already)
    try:
        yield
    finally:
        _CHECKED_ALREADY.reset(token)


def checks_values() -> bool:
    """Whether values are to be checked: Pyro's validation is on, and nobody has checked them already."""
    return bool(is_validation_enabled()) and not _CHECKED_ALREADY.get()


def integer(name: str, value: object, *, least: int = 1) -> int:
    """Return ``value`` as an int of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"`{name}` must be an integer; got {value!r} of type {type(value).__name__}.")
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}; got {value}.")
    return int(value)


def positive_number(name: str, value: object, *, zero: bool = False) -> float:
    """Return ``value`` as a finite float above zero, or from zero on with ``zero=True``."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be a number; got {value!r} of type {type(value).__name__}.")
    number = float(value)
    if not (0.0 < number < float("inf") or (zero and number == 0.0)):
        raise ValueError(f"`{name}` must be finite and {'at least' if zero else 'above'} 0; got {number}.")
    return number


def step_size(value: object) -> float:
    """Return the size of a natural-gradient step, in (0, 1]."""
    number = positive_number("step_size", value)
    if number > 1.0:
        raise ValueError(f"`step_size` must be in (0, 1]; got {number}. 1 replaces the posterior by its optimum.")
    return number


def tensor(name: str, value: object, shape: Sequence[int | str]) -> Tensor:
    """Return ``value`` if it is a floating tensor of ``shape``, a word in which stands for any length above 0."""
    if not isinstance(value, Tensor):
        raise TypeError(f"`{name}` must be a torch.Tensor; got {type(value).__name__}. Use torch.as_tensor({name}).")
    if not value.is_floating_point():
        raise TypeError(
            f"`{name}` must have a floating dtype; got {value.dtype}. Use {name}.double() or {name}.float()."
        )
    if len(value.shape) != len(shape) or not all(map(_fits, value.shape, shape)):
        wanted = f"[{', '.join(map(str, shape))}]"
        raise ValueError(f"`{name}` must have shape {wanted}, no axis empty; got {list(value.shape)}.")
    return value


def _fits(size: int, wanted: int | str) -> bool:
    return size >= 1 if isinstance(wanted, str) else size == wanted


def finite(name: str, value: Tensor) -> Tensor:
    """Return ``value`` if every entry is finite."""
    if checks_values():
        bad = int((~torch.isfinite(value)).sum())
        if bad:
            raise ValueError(f"`{name}` must be finite; got {bad} NaN or infinite values of {value.numel()}.")
    return value


def inputs(value: object, *, name: str = "x", n_features: int | str = "D") -> Tensor:
    """Return ``value`` if it is finite [N, D] with N at least one; D may be zero."""
    if isinstance(value, Tensor) and value.ndim == 2 and value.shape[1] == 0 and n_features in (0, "D"):
        n_features = 0
    return finite(name, tensor(name, value, ("N", n_features)))


def outputs(value: object, x: Tensor, *, n_outputs: int | str = "P") -> Tensor:
    """Return y as [N, P], finite, with the rows and dtype of x; a y of shape [N] is one output."""
    if isinstance(value, Tensor) and value.ndim == 1:
        value = value.unsqueeze(1)
    checked = tensor("y", value, ("N", n_outputs))
    if len(checked) != len(x):
        raise ValueError(f"`y` must have as many rows as `x`, {len(x)}; got {len(checked)}.")
    if checked.dtype != x.dtype:
        raise ValueError(f"`y` must have the dtype of `x`, {x.dtype}; got {checked.dtype}. Use y.to(x.dtype).")
    return finite("y", checked)


def responsibilities(value: object, n_components: int, n_objects: int, *, name: str = "responsibilities") -> Tensor:
    """Return ``value`` if it is [N, K], finite and non-negative. Rows need not sum to one: a row may carry a weight."""
    checked = tensor(name, value, (n_objects, n_components))
    if n_objects == 0:
        raise ValueError(f"`{name}` must have at least one row; got {list(checked.shape)}.")
    if checks_values():
        # NaN anywhere is the least and the largest, and fails both comparisons.
        low, high = _values(*torch.aminmax(checked))
        if not (low >= 0.0 and high < math.inf):
            raise ValueError(f"`{name}` must be finite and non-negative; got values from {low:.6g} to {high:.6g}.")
    return checked


def _values(first: Tensor, second: Tensor) -> tuple[float, float]:
    """Two scalars; together from a GPU, for each would be a wait, and one by one from a CPU, which takes less there."""
    if first.device.type == "cpu":
        return first.item(), second.item()
    low, high = torch.stack([first, second]).tolist()
    return low, high


def vector(name: str, value: object, length: int) -> Tensor:
    """Return ``value``, a number or ``length`` numbers, as a float64 vector [length] of finite numbers."""
    numbers = _float64(name, value, f"a number or {length} numbers")
    if numbers.ndim == 0:
        numbers = numbers.repeat(length)
    if numbers.shape != (length,):
        raise ValueError(f"`{name}` must be a number or a vector of length {length}; got shape {list(numbers.shape)}.")
    if not torch.isfinite(numbers).all():
        raise ValueError(f"`{name}` must be finite; got {numbers.tolist()}.")
    return numbers


def positive_vector(name: str, value: float | Sequence[float] | Tensor, length: int) -> Tensor:
    """Return ``value``, a number or ``length`` numbers, as a float64 vector [length] of finite numbers above zero."""
    numbers = vector(name, value, length)
    if not (numbers > 0).all():
        raise ValueError(f"`{name}` must be finite and above 0; got {numbers.tolist()}.")
    return numbers


def positive_definite(name: str, value: object, size: int) -> Tensor:
    """Return ``value``, a number, ``size`` numbers for a diagonal, or a matrix, as a float64 matrix [size, size]."""
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
    """Return finite numbers as a float64 tensor of ``shape``; given with its last axes only, they are repeated."""
    numbers = _float64(name, value, "a number or numbers")
    if numbers.shape != shape[len(shape) - numbers.ndim :]:
        wanted = ", ".join(str(list(shape[first:])) for first in range(len(shape)))
        raise ValueError(f"`{name}` must be a number or have shape {wanted}; got shape {list(numbers.shape)}.")
    if not torch.isfinite(numbers).all():
        raise ValueError(f"`{name}` must be finite; got {numbers.tolist()}.")
    return numbers.expand(shape).clone()


def _float64(name: str, value: object, wanted: str) -> Tensor:
    """Return a copy of ``value`` as a float64 tensor."""
    try:
        return torch.as_tensor(value, dtype=torch.float64).detach().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"`{name}` must be {wanted}; got {value!r}.") from error


def representable(name: str, value: Tensor) -> Tensor:
    """Return a tensor of positive numbers if its dtype is a floating one in which none of them has become zero."""
    if not value.is_floating_point():
        raise TypeError(f"`dtype` must be a floating dtype; got {value.dtype}.")
    if not bool((value > 0).all()):
        raise ValueError(f"`{name}` must be above 0 in {value.dtype}; got {value.tolist()}. Use a larger dtype.")
    return value


def finite_posterior(parts: Sequence[Tensor]) -> None:
    """Raise if statistics have led to a posterior that is none."""
    if checks_values() and not all(bool(torch.isfinite(part).all()) for part in parts):
        raise ValueError(
            "`statistics` must lead to a positive definite matrix; got one that is singular but for rounding. Scale "
            "the columns to unit order, leave out those that others make up, or strengthen the prior."
        )


def posterior(after: Any, *, like: Any) -> None:  # noqa: ANN401 (each family has its own)
    """Raise if statistics have led to a posterior of another shape, or to one that is not finite.

    Args:
        after: the posterior, a nest of NamedTuples of tensors.
        like: a posterior of the right shapes.

    Raises:
        ValueError: if a shape differs or, while values are checked, if a value is not finite.
    """
    for name, value, wanted in zip(after._fields, after, like, strict=True):
        if not isinstance(value, Tensor):
            posterior(value, like=wanted)
        elif value.shape != wanted.shape:
            got = list(value.shape)
            raise ValueError(f"`statistics` must lead to a {name} of shape {list(wanted.shape)}; got {got}.")
        else:
            finite_posterior((value,))


def same_shapes(name: str, value: Any, like: Any) -> None:  # noqa: ANN401
    """Raise if a field of a NamedTuple of tensors has another shape than in another one.

    Args:
        name: of the argument, for the message.
        value: the NamedTuple.
        like: one of the right shapes.

    Raises:
        ValueError: if a shape differs.
    """
    for field, part, wanted in zip(like._fields, value, like, strict=True):
        if part.shape != wanted.shape:
            raise ValueError(f"`{name}.{field}` must have shape {list(wanted.shape)}; got {list(part.shape)}.")


def device(value: object) -> torch.device:
    """Return a device of this machine: ``'cpu'``, ``'cuda'``, ``'cuda:1'`` or a torch.device."""
    if not isinstance(value, str | torch.device):
        raise TypeError(f"`device` must be a string or a torch.device; got {value!r} of type {type(value).__name__}.")
    try:
        resolved = torch.device(value)
    except RuntimeError as error:
        raise ValueError(f"`device` must be 'cpu', 'cuda' or 'cuda:<index>'; got {value!r}.") from error
    if resolved.type not in ("cpu", "cuda"):
        raise ValueError(f"`device` must be 'cpu', 'cuda' or 'cuda:<index>'; got {value!r}.")
    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if resolved.type == "cuda" and (resolved.index or 0) >= n_devices:
        raise RuntimeError(f"`device` must be present on this machine; got {value!r} and {n_devices} CUDA devices.")
    return resolved


def same_device(name: str, value: Tensor, wanted: torch.device) -> Tensor:
    """Return ``value`` if it lies on the device ``wanted``."""
    if value.device != wanted:
        raise ValueError(
            f"`{name}` must be on {wanted}, as the model is; got {value.device}. Use {name}.to({str(wanted)!r})."
        )
    return value
