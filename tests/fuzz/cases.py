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
    names = [name for name in MAKERS if only in name]
    pyro.clear_param_store()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        call = MAKERS[names[number % len(names)]](rng)
    torch.manual_seed(rng.randrange(10**6))
    random.seed(0)
    for _ in range(rng.choice(N_REPLACED)):
        _replace_one(call, rng)
    call.is_related = rng.random() < RELATED
    return call


def _replace_one(call: Call, rng: random.Random) -> None:
    """Replace one argument of a call, or give one that was not given."""
    names = [*call.arguments, *call.arguments, *_further(call)]
    names = [name for name in names if name not in call.fixed]
    if not names:
        return
    name = rng.choice(names)
    likely = call.arguments.get(name, _likely(name, call.arguments))
    call.arguments[name], call.replaced[name] = odd_value(likely, rng)


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


def _likely(name: str, arguments: dict[str, Any]) -> Any:
    """Return what an argument that was not given would probably be."""
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
