"""NumPy's handling of floating-point errors, which a caller may have changed."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numpy as np

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def with_default_errors(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a function to run under NumPy's default handling of floating-point errors.

    A caller who lets them raise wants to hear of his own computations: here numbers underflow to zero as they should.

    Args:
        function: a public one that computes with NumPy.
    """

    @functools.wraps(function)
    def under_defaults(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
            return function(*args, **kwargs)

    return under_defaults
