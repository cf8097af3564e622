"""Checks of arguments by their names, before a public function is called."""

import functools
import inspect
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from mixpyro.arguments.dense import array_of, dense, has_masked_numbers, is_dense, stored
from mixpyro.arguments.messages import shown
from mixpyro.arguments.numbers import LARGEST_INTEGER, integer, positive_number, step_size
from mixpyro.arguments.signals import pass_on

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
# Rows of a range, which are integers of eight bytes each in memory.
MOST_OF_RANGE = 10**8
# Called with the name of an argument and its value; returns the value, or raises.
Check = Callable[[str, Any], Any]


def checked(**checks: Check) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Decorate a public function to check some of its arguments first.

    A default that the caller leaves as it is, such as None, is not checked.

    Args:
        **checks: by the name of an argument.
    """

    def decorate(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        signature = inspect.signature(function)
        defaults = {name: parameter.default for name, parameter in signature.parameters.items()}

        @functools.wraps(function)
        def with_checks(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            bound = signature.bind(*args, **kwargs)
            for name, check in checks.items():
                if name in bound.arguments and bound.arguments[name] is not defaults[name]:
                    bound.arguments[name] = check(name, bound.arguments[name])
            return function(*bound.args, **bound.kwargs)

        return with_checks

    return decorate


def one_of_kinds(words: str, *kinds: type) -> Check:
    """Return a check that a value is of one of some types.

    Args:
        words: what the argument must be, as in "`fitted` must be <words>".
        *kinds: the types.
    """

    def check(name: str, value: object) -> object:
        if not isinstance(value, kinds):
            raise TypeError(f"`{name}` must be {words}; got {shown(value)} of type {type(value).__name__}.")
        return value

    return check


text = one_of_kinds("a string", str)
mapping = one_of_kinds("a mapping", Mapping)


def is_iterable(value: object) -> bool:
    """Return whether a value can be iterated over; tensors and arrays of no axes cannot.

    Args:
        value: anything.
    """
    if isinstance(value, Tensor):
        return is_dense(value) and value.ndim > 0
    try:
        iter(value)  # type: ignore[call-overload]
    except (TypeError, NotImplementedError):  # the latter of modules that torch has compiled
        return False
    return True


def texts(name: str, value: object) -> list[str]:
    """Return strings as a list.

    Args:
        name: of the argument.
        value: what the user passed.

    Raises:
        TypeError: if it is one string, or no strings.
    """
    # A generator may go on for ever.
    found = list(value) if isinstance(value, Collection) and is_iterable(value) else None
    if found is None or isinstance(value, str) or not all(isinstance(one, str) for one in found):
        raise TypeError(f"`{name}` must be strings; got {shown(value)} of type {type(value).__name__}.")
    return found


def path(name: str, value: object) -> str:
    """Return the path of a file.

    Args:
        name: of the argument.
        value: what the user passed.

    Raises:
        TypeError: if it is neither a string nor an ``os.PathLike`` of one.
        ValueError: if it is empty, has a null character or one that the system cannot write, or is longer than the
            system allows or a circle of links.
    """
    found = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(found, str):
        raise TypeError(f"`{name}` must be a string or a pathlib.Path; got {shown(value)} of {type(value).__name__}.")
    if not found or "\0" in found:
        raise ValueError(f"`{name}` must be the path of a file; got {shown(found)}.")
    try:
        os.stat(found)
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # which is for those who read or write it to say
        pass
    except (OSError, UnicodeError) as error:
        words = getattr(error, "strerror", None) or error
        raise ValueError(f"`{name}` must be the path of a file; got {shown(found)}: {words}.") from error
    return found


def probability(name: str, value: object) -> float:
    """Return a probability that is neither 0 nor 1.

    Args:
        name: of the argument.
        value: what the user passed.

    Raises:
        TypeError: if it is not a number.
        ValueError: if it is not in (0, 1).
    """
    number = positive_number(name, value)
    if number >= 1.0:
        raise ValueError(f"`{name}` must be below 1; got {number}.")
    return number


def can_be_called(value: object) -> bool:
    """Return whether a value is a function: a module of torch without ``forward`` is not.

    Args:
        value: anything.
    """
    if not isinstance(value, nn.Module):
        return callable(value)
    return any("forward" in vars(cls) for cls in type(value).__mro__ if cls is not nn.Module)


def function_of(name: str, value: object, *examples: object) -> Callable[..., Any]:
    """Return a function that can be called with so many arguments by position.

    Args:
        name: of the argument.
        value: what the user passed.
        *examples: one of each argument that the function will be called with.

    Raises:
        TypeError: if it cannot be called, or not with these.
    """
    found = function(name, value)
    try:
        inspect.signature(found).bind(*examples)
    except TypeError as error:
        call = f"{name}({', '.join(map(repr, examples))})"
        raise TypeError(f"`{name}` must be a function that can be called as {call}; got {shown(value)}.") from error
    except ValueError:  # one without a signature, of C
        return found
    return found


def step_sizes(value: object) -> float | Callable[[int], float]:
    """Return the size of steps, or a function of the number of a step.

    Args:
        value: what the user passed as ``step_size``.

    Raises:
        TypeError: if it is neither a number nor such a function; a network is none.
        ValueError: if it is a number outside of (0, 1].
    """
    if isinstance(value, nn.Module):  # which takes tensors
        got = type(value).__name__
        raise TypeError(f"`step_size` must be a number in (0, 1], or a function of the number of a step; got {got}.")
    return function_of("step_size", value, 1) if can_be_called(value) else step_size(value)


def function(name: str, value: object) -> Callable[..., Any]:
    """Return a function.

    Args:
        name: of the argument.
        value: what the user passed.

    Raises:
        TypeError: if it cannot be called.
    """
    if not can_be_called(value):
        raise TypeError(f"`{name}` must be a function; got {shown(value)} of type {type(value).__name__}.")
    return value  # type: ignore[return-value]


def integer_from(least: int, most: int = LARGEST_INTEGER) -> Check:
    """Return a check that a value is an integer within limits.

    Args:
        least: the smallest value allowed.
        most: the largest value allowed.
    """
    return functools.partial(integer, least=least, most=most)


# A number of something, from 0, and a seed of random numbers.
index = seed = integer_from(0)


def tensors(name: str, value: object) -> dict[str, Tensor]:
    """Return tensors by name.

    Args:
        name: of the argument.
        value: what the user passed: a mapping of dense tensors or of arrays of numbers.

    Raises:
        TypeError: if it is no mapping, a key is no string, or a value holds no real numbers.
    """
    found = {}
    for key, one in mapping(name, value).items():
        entry = f"{name}[{text(name, key)!r}]"
        found[key] = dense(entry, one) if isinstance(one, Tensor) else torch.as_tensor(of_numbers(entry, one))
    return found


def in_memory(name: str, value: range) -> np.ndarray:
    """Return the integers of a range as an array.

    Args:
        name: of the argument.
        value: what the user passed.

    Raises:
        ValueError: if there are more than 10⁸.
    """
    # The length itself may be beyond what `len` returns.
    if (value.stop - value.start) // value.step > MOST_OF_RANGE:
        raise ValueError(f"`{name}` must have at most {MOST_OF_RANGE:.0e} rows; got {value!r}.")
    return np.asarray(value, dtype=np.int64)


def rows_in_memory(name: str, value: object) -> object:
    """Return what another library shall read as rows, if a copy of it is no larger than it seems.

    Args:
        name: of the argument.
        value: what the user passed; only tensors, arrays and ranges are looked at.

    Raises:
        TypeError: if it is a tensor that is not dense, or an array of a few numbers that are repeated.
        ValueError: if it is a range of more than 10⁸ numbers.
    """
    if isinstance(value, Tensor):
        return dense(name, value)
    if isinstance(value, range):
        return in_memory(name, value)
    return stored(name, value) if isinstance(value, np.ndarray) else value


def of_numbers(name: str, value: object) -> np.ndarray:
    """Return real numbers as an array, in the dtype that they have.

    Args:
        name: of the argument.
        value: what the user passed: an array, a dense tensor, or a list of numbers.

    Raises:
        TypeError: if it holds something else than real numbers.
        ValueError: if its rows differ in length.
    """
    given = array_of(name, value) if isinstance(value, Tensor) else rows_in_memory(name, value)
    try:
        array = np.asarray(given)
    except (TypeError, RuntimeError) as error:
        pass_on(error)
        raise TypeError(f"`{name}` must be an array of numbers; got {shown(value)}.") from error
    except ValueError as error:
        raise ValueError(f"`{name}` must be an array whose rows have one length; got {shown(value)}.") from error
    if array.dtype == object and has_masked_numbers(value):
        array = value.to_numpy(dtype=np.float64, na_value=np.nan)  # type: ignore[attr-defined]
    if array.dtype.kind not in "iuf":
        raise TypeError(f"`{name}` must be an array of numbers; got {shown(value)}, of {array.dtype}.")
    return array
