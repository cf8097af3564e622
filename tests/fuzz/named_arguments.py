"""Whether an error speaks of an argument of the function that was called, in the words of its documentation."""

import functools
import inspect
import re
from typing import Any

import mixpyro
from mixpyro import FitResult, FormulaResult, MixtureOfExperts
from tests.fuzz.call import Call

# Types of errors that the documentation of the whole package promises for wrong arguments, and their subclasses.
OF_ALL = (TypeError, ValueError)
# Errors of files and of extras, which every function that reads them may raise.
OF_SURROUNDINGS = (OSError, ImportError)
# Arguments that take rows under a name of their own, and what errors may call a column of them.
OF_ROWS, ROWS = {"X", "data", "batches", "batch", "result", "fitted", "results"}, {"x", "y", "gate_x"}

# Functions of the fuzzer's own that stand for fits of several parts.
TARGETS = "tests.fuzz.targets"


def names_no_argument(call: Call, error: BaseException) -> list[str]:
    """Return a complaint if a message names in backticks nothing that the caller of a function knows.

    Args:
        call: that has raised.
        error: what it raised.
    """
    named = [found[1] for found in re.finditer(r"`([A-Za-z_]\w*)", str(error))]
    known = {*_parameters(_function(call)), *call.arguments, *_texts(call.arguments), *_given_before(call)}
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


def _parameters(function: Any) -> set[str]:
    """Return the names of the parameters of a function or class."""
    try:
        return set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return set()


def _given_before(call: Call) -> set[str]:
    """Return the names of what the caller has given to make the owner and the arguments of a call.

    These are the parameters of their classes, and of what fits results: their rows may be wrong for the call.
    """
    found: set[str] = set()
    for value in (call.owner, *call.arguments.values(), *call.positional):
        found |= _of_maker(value)
    if getattr(_function(call), "__module__", "").startswith(TARGETS):
        found |= _parameters(mixpyro.fit)
    takes_rows = OF_ROWS & {*_parameters(_function(call)), *call.arguments}
    return found | ROWS if takes_rows else found


def _of_maker(value: Any) -> set[str]:
    """Return the names of the parameters of what has made an object of the package's."""
    if not type(value).__module__.startswith("mixpyro"):
        return set()
    found = _parameters(type(value))
    if isinstance(value, FitResult | FormulaResult):
        found |= _parameters(mixpyro.fit_formula if isinstance(value, FormulaResult) else mixpyro.fit)
    mixture = value if isinstance(value, MixtureOfExperts) else getattr(value, "mixture", None)
    if isinstance(mixture, MixtureOfExperts):
        found |= {name for part in (mixture, *mixture.modules()) for name in _parameters(type(part))}
    return found


def _texts(arguments: dict[str, Any]) -> set[str]:
    """Return the strings among the arguments: a caller may give the name of what is checked."""
    return {value for value in arguments.values() if isinstance(value, str)}
