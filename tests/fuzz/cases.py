"""The case of a seed and a number: a right call of which some arguments may have been replaced."""

import functools
import inspect
import random
import warnings
from typing import Any

import pyro
import torch

from tests.fuzz.call import Call
from tests.fuzz.odd_values import odd_value
from tests.fuzz.targets import MAKERS

# How often no argument, one or two of them are replaced.
N_REPLACED = (0, 1, 1, 1, 1, 2)
# How often the result of a right call is compared with those of related ones.
RELATED = 0.5


def case(seed: int, number: int, *, only: str = "") -> Call:
    """Return the call of a case; the global state depends on nothing else either.

    Args:
        seed: of all cases.
        number: of this one.
        only: part of the name of the functions to choose from; all by default.
    """
    rng = random.Random(f"{seed} {number}")
    names = targets(only)
    call = made(names[number % len(names)], rng)
    for _ in range(rng.choice(N_REPLACED)):
        _replace_one(call, rng)
    call.is_related = rng.random() < RELATED
    return call


def targets(only: str) -> list[str]:
    """Return the names of functions to call.

    Args:
        only: part of the names.
    """
    return [name for name in MAKERS if only in name]


def made(target: str, rng: random.Random) -> Call:
    """Return a right call, and put the global state where it is before every call.

    Args:
        target: name of the function.
        rng: draws the arguments.
    """
    pyro.clear_param_store()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        call = MAKERS[target](rng)
    torch.manual_seed(rng.randrange(10**6))
    random.seed(0)
    return call


def _replace_one(call: Call, rng: random.Random) -> None:
    """Replace one argument of a call, or give one that was not given."""
    names = [*call.arguments, *call.arguments, *_further(call)]
    names = [name for name in names if name not in call.fixed]
    if not names:
        return
    name = rng.choice(names)
    call.arguments[name], call.replaced[name] = odd_value(likely(name, call.arguments), rng)


def names_of_arguments(call: Call) -> list[str]:
    """Return the names of the arguments that may be replaced, those that were not given among them.

    Args:
        call: a right one.
    """
    return [name for name in [*call.arguments, *_further(call)] if name not in call.fixed]


def _further(call: Call) -> list[str]:
    """Return the names of the arguments that were not given."""
    function = call.function
    while isinstance(function, functools.partial):
        function = function.args[0]
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    taken = len(call.positional)
    return [p.name for p in list(parameters)[taken:] if p.kind in plain and p.name not in call.arguments]


def likely(name: str, arguments: dict[str, Any]) -> Any:
    """Return what an argument is, or would probably be where it was not given.

    Args:
        name: of the argument.
        arguments: that were given.
    """
    if name in arguments:
        return arguments[name]
    x = arguments.get("x")
    if not isinstance(x, torch.Tensor) or x.ndim < 1 or x.is_quantized:
        return None
    return {
        "gate_x": x,
        "weights": torch.ones(len(x), dtype=x.dtype),
        "groups": torch.arange(len(x)) // 2,
        "observed": torch.zeros(len(x), dtype=torch.long),
        "mask": torch.ones(len(x), dtype=torch.bool),
        "objects": torch.arange(len(x)),
    }.get(name)
