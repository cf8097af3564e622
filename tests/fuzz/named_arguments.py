"""Whether an error speaks of an argument of the function that was called, in the words of its documentation."""

import functools
import inspect
import re
from typing import Any

from tests.fuzz.call import Call

# Types of errors that the documentation of the whole package promises for wrong arguments, and their subclasses.
OF_ALL = (TypeError, ValueError)
# Errors of files and of extras, which every function that reads them may raise.
OF_SURROUNDINGS = (OSError, ImportError)
# What errors name although it is no argument, since the caller has given it elsewhere: columns of a table and terms
# of a formula, the gate's inputs where they are x, networks of a part, and what a result was fitted with.
ELSEWHERE = {
    *("x", "y", "gate_x", "network", "features", "prior_scale", "missing", "data", "groups", "observed", "weights"),
    *("result", "experts", "gate", "checkpoint"),
}


def names_no_argument(call: Call, error: BaseException) -> list[str]:
    """Return a complaint if a message names in backticks nothing that the caller of a function knows.

    Args:
        call: that has raised.
        error: what it raised.
    """
    named = [found[1] for found in re.finditer(r"`([A-Za-z_]\w*)", str(error))]
    known = {*_parameters(call), *call.arguments, *ELSEWHERE, *_texts(call.arguments)}
    if not named or known & set(named):
        return []
    return [f"the error names {', '.join(dict.fromkeys(named))}, and no argument: {error}"]


def is_not_documented(call: Call, error: BaseException) -> list[str]:
    """Return a complaint if an error is of a type that neither the package nor the function documents.

    Args:
        call: that has raised.
        error: what it raised.
    """
    # The package's own errors say where they are raised, in the docstrings of their classes.
    if type(error) in OF_ALL or isinstance(error, OF_SURROUNDINGS) or type(error).__module__.startswith("mixpyro"):
        return []
    documented = inspect.getdoc(_function(call))
    # A function of the fuzzer's own stands for several of the package's.
    if documented is None:
        return []
    names = [cls.__name__ for cls in type(error).__mro__ if issubclass(cls, Exception) and cls is not Exception]
    if any(re.search(rf"\b{name}\b", documented) for name in names):
        return []
    return [f"{type(error).__name__} is not documented: {error}"]


def _function(call: Call) -> Any:
    """Return the function that is called, inside of what fills some of its arguments."""
    function = call.function
    while isinstance(function, functools.partial):
        function = function.args[0] if function.args and callable(function.args[0]) else function.func
    return function


def _parameters(call: Call) -> set[str]:
    """Return the names of the parameters of the function."""
    try:
        return set(inspect.signature(_function(call)).parameters)
    except (TypeError, ValueError):
        return set()


def _texts(arguments: dict[str, Any]) -> set[str]:
    """Return the strings among the arguments: a caller may give the name of what is checked."""
    return {value for value in arguments.values() if isinstance(value, str)}
