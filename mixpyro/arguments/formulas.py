"""Errors of formulas on tensors, in words. A fit calls them in loops: arguments are looked at once a formula fails."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from torch import Tensor

from mixpyro.arguments.data import a_tensor
from mixpyro.arguments.densities import refused_parameter

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
# What PyTorch and Python raise of values that are no tensors, or of shapes or dtypes that do not go together. Not
# subclasses of them, such as an error of memory.
KINDS = (AttributeError, TypeError, RuntimeError, IndexError, ValueError, KeyError, NotImplementedError)
# Those and what PyTorch raises of fake tensors.
CAUGHT = (*KINDS, AssertionError)


def explained(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a formula to name the tensors of which it fails.

    Args:
        function: whose arguments that are tensors are annotated so.
    """
    signature = inspect.signature(function)
    names = [name for name, one in signature.parameters.items() if _is_tensor(one.annotation)]

    @functools.wraps(function)
    def in_words(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except CAUGHT as error:
            # A method that a subclass must write has no message.
            if type(error) not in CAUGHT or not str(error) or str(error).startswith("`"):
                raise
            _refuse(names, signature.bind(*args, **kwargs).arguments, error)
            raise

    return in_words


def _is_tensor(annotation: object) -> bool:
    """Return whether an argument is declared to be a tensor, of any shape."""
    return annotation is Tensor or getattr(annotation, "array_type", None) is Tensor


def _refuse(names: list[str], values: Mapping[str, Any], error: Exception) -> None:
    """Raise in words of the arguments what a formula has failed of."""
    tensors = {name: a_tensor(name, values[name]) for name in names if name in values}
    if tensors and type(error) in KINDS:
        listed = " and ".join(f"`{name}`" for name in tensors)
        refused = refused_parameter(error)
        if refused is not None:
            raise ValueError(f"{listed} must give a distribution; got {refused} out of its range, or NaN.") from error
        got = ", ".join(f"{list(one.shape)} of {one.dtype}" for one in tensors.values())
        raise ValueError(f"{listed} must have shapes and dtypes that go together; got {got}: {error}") from error
