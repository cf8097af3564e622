"""Checks of the parameters of estimators, and fits of them that leave everything as it was if they fail."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from mixpyro import arguments
from mixpyro.arguments.checked import Check
from mixpyro.arguments.signals import pass_on, undone_if_it_raises

Result = TypeVar("Result")
# Largest seed that is drawn for a fit.
MOST_SEED = 2**31 - 1


def one_of(*words: str) -> Check:
    """Return a check that a value is one of some words.

    Args:
        *words: that are allowed.
    """

    def check(name: str, value: object) -> object:
        if not isinstance(value, str) or value not in words:
            raise ValueError(f"`{name}` must be one of {list(words)}; got {arguments.shown(value)}.")
        return value

    return check


def unless_none(check: Check) -> Check:
    """Return a check that lets None pass.

    Args:
        check: of any other value.
    """
    return lambda name, value: None if value is None else check(name, value)


def random_state(name: str, value: object) -> np.random.RandomState:
    """Return what draws random numbers for a ``random_state``.

    Args:
        name: of the argument.
        value: what the user passed: None for any numbers, an integer, or a ``numpy.random.RandomState``.

    Raises:
        ValueError: if it is something else.
    """
    try:
        return check_random_state(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` must be None, an integer from 0 to {2**32 - 1} or a numpy.random.RandomState; got "
            f"{arguments.shown(value)}."
        ) from error


def random_seed(name: str, value: object) -> int:
    """Return a seed that is the same for the same ``random_state``.

    Args:
        name: of the argument.
        value: as of :func:`random_state`.
    """
    return int(random_state(name, value).randint(MOST_SEED))


def check_parameters(estimator: BaseEstimator, checks: Mapping[str, Check]) -> None:
    """Check the parameters of an estimator, which scikit-learn wants to be checked where they are used.

    Args:
        estimator: with the parameters.
        checks: by the names of parameters.

    Raises:
        TypeError: if one is of another type.
        ValueError: if one has another value.
    """
    for name, check in checks.items():
        check(name, getattr(estimator, name))


@contextmanager
def numbers_of(*names: str) -> Iterator[None]:
    """Let errors of what scikit-learn and NumPy cannot read name the arguments.

    Args:
        *names: of the arguments that are read inside.
    """
    try:
        yield
    except (TypeError, ValueError, RuntimeError, OverflowError, AttributeError) as error:
        pass_on(error)
        if str(error).startswith("`"):
            raise
        kind = TypeError if isinstance(error, TypeError | AttributeError) else ValueError
        words = " and ".join(f"`{name}`" for name in names)
        raise kind(f"{words} must be arrays that scikit-learn reads; got this error: {error}") from error


def of_rows_in_memory(method: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate a method of an estimator to refuse rows that are far larger than they seem.

    Args:
        method: any; looked at are the arguments ``X``, ``sample_weight``, ``groups``, and a ``y`` that is needed.
    """
    signature = inspect.signature(method)
    y = signature.parameters.get("y")
    names = {"X", "sample_weight", "groups"} | ({"y"} if y is not None and y.default is y.empty else set())

    @functools.wraps(method)
    def with_rows(*args: Any, **kwargs: Any) -> Result:  # noqa: ANN401 (they are the method's)
        bound = signature.bind(*args, **kwargs)
        for name in names & bound.arguments.keys():
            bound.arguments[name] = arguments.rows_in_memory(name, bound.arguments[name])
        return method(*bound.args, **bound.kwargs)

    return with_rows


def all_or_nothing(method: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate a method of an estimator to check its parameters, and to leave it as it was if it raises.

    Args:
        method: one that fits the estimator.
    """

    @functools.wraps(method)
    def whole(self: Any, *args: Any, **kwargs: Any) -> Result:  # noqa: ANN401 (they are the method's)
        def kept() -> Callable[[], None]:
            before, stream = dict(vars(self)), getattr(self, "_stream", None)
            put_stream_back = None if stream is None else stream.kept()
            generator = check_random_state(self.random_state)
            numbers = generator.get_state()

            def put_back() -> None:
                vars(self).clear()
                vars(self).update(before)
                generator.set_state(numbers)
                if put_stream_back is not None:
                    put_stream_back()

            return put_back

        check_parameters(self, self._checks)
        return undone_if_it_raises(lambda: method(self, *args, **kwargs), kept)

    return whole
