"""Values that hardly any argument takes."""

import decimal
import fractions
import functools
import math
import pathlib
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tests.fuzz.odd_networks import NETWORKS, odd_network
from tests.fuzz.odd_tensors import FURTHER, KINDS, LAYOUTS, SHAPES, VALUES, odd_tensor


class HostileError(Exception):
    """What an object of the user's raises: it may come through."""


class WithoutLength:
    """An object that refuses to be counted."""

    def __len__(self) -> int:
        raise HostileError("no length")

    def __repr__(self) -> str:
        return "WithoutLength()"


class WithoutEquality:
    """An object that refuses to be compared, and to be true or false."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise HostileError("no equality")

    def __bool__(self) -> bool:
        raise HostileError("no truth")

    def __repr__(self) -> str:
        return "WithoutEquality()"


def _inside_itself() -> list[Any]:
    """Return a list that holds itself."""
    found: list[Any] = []
    found.append(found)
    return found


SIMPLE: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "an empty string": lambda: "",
    "a word": lambda: "odd",
    "bytes": lambda: b"odd",
    "10**30": lambda: 10**30,
    "-10**30": lambda: -(10**30),
    "2**63": lambda: 2**63,
    "-1": lambda: -1,
    "0": lambda: 0,
    "1": lambda: 1,
    "3": lambda: 3,
    "0.0": lambda: 0.0,
    "0.5": lambda: 0.5,
    "-0.5": lambda: -0.5,
    "2.5": lambda: 2.5,
    "1e-300": lambda: 1e-300,
    "1e-310": lambda: 1e-310,
    "1e300": lambda: 1e300,
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "minus infinity": lambda: float("-inf"),
    "True": lambda: True,
    "False": lambda: False,
    "1j": lambda: 1j,
    "a lambda": lambda: lambda *args, **kwargs: None,
    "a class": lambda: int,
    "an object": lambda: object(),
    "an object without length": WithoutLength,
    "an object without equality": WithoutEquality,
    "a numpy float": lambda: np.float64(2.0),
    "a numpy half": lambda: np.float16(2.0),
    "a numpy integer": lambda: np.int64(2),
    "a numpy bool": lambda: np.True_,
    "a numpy NaN": lambda: np.float64("nan"),
    "an array of no axes": lambda: np.array(2.0),
    "an array": lambda: np.array([1.0, 2.0]),
    "an array of strings": lambda: np.array(["a", "b"]),
    "a tensor of no axes": lambda: torch.tensor(2.0, dtype=torch.float64),
    "a tensor of integers": lambda: torch.tensor([1, 2]),
    "a tensor": lambda: torch.tensor([1.0, 2.0], dtype=torch.float64),
    "a tensor without storage": lambda: torch.ones(2, 2, dtype=torch.float64, device="meta"),
    "a scalar without storage": lambda: torch.tensor(2.0, dtype=torch.float64, device="meta"),
    "a sparse tensor": lambda: torch.eye(2, dtype=torch.float64).to_sparse(),
    "an empty tensor": lambda: torch.empty(0),
    "an empty list": list,
    "a list of a number": lambda: [1],
    "a list of strings": lambda: ["a", "b"],
    "a nested list": lambda: [[1.0, 2.0], [3.0]],
    "a list of None": lambda: [None, None],
    "an empty tuple": tuple,
    "an empty dict": dict,
    "a dict": lambda: {"a": 1},
    "a set": lambda: {1, 2},
    "a range": lambda: range(2),
    "a slice": lambda: slice(None),
    "a fraction": lambda: fractions.Fraction(1, 3),
    "a decimal": lambda: decimal.Decimal("0.5"),
    "a path": lambda: pathlib.Path("odd"),
    "an empty frame": pd.DataFrame,
    "a frame": lambda: pd.DataFrame({"a": [1.0, 2.0]}),
    "a series": lambda: pd.Series([1.0, 2.0]),
    "missing of pandas": lambda: pd.NA,
    "a generator": lambda: (number for number in (1, 2)),
    "a dtype": lambda: torch.float64,
    "half precision": lambda: torch.float16,
    "complex numbers": lambda: torch.complex64,
    "a device": lambda: torch.device("cpu"),
    "no storage": lambda: "meta",
}

# Of grids alone, so that the random calls of a seed stay what they are.
FURTHER_SIMPLE: dict[str, Callable[[], Any]] = {
    "a scalar of eight bits": lambda: torch.tensor(2.0).to(torch.float8_e4m3fn),
    "a scalar of bits": lambda: torch.tensor(2, dtype=torch.uint8).view(torch.bits8),
    "a complex scalar": lambda: torch.tensor(1j),
    "a true scalar": lambda: torch.tensor(True),
    "a scalar of integers": lambda: torch.tensor(2),
    "a scalar with a gradient": lambda: torch.tensor(2.0, requires_grad=True),
    "a scalar of NaN": lambda: torch.tensor(float("nan")),
    "a nested tensor": lambda: torch.nested.as_nested_tensor([torch.ones(1), torch.ones(2)], layout=torch.jagged),
    "a quantised tensor": lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    "a numpy complex": lambda: np.complex128(1j),
    "a numpy string": lambda: np.str_("odd"),
    "a date": lambda: np.datetime64("2020-01-01"),
    "no date": lambda: pd.NaT,
    "a masked number": lambda: np.ma.masked,
    "an array of objects": lambda: np.array([None, "a"], dtype=object),
    "a record": lambda: np.zeros(2, dtype=[("a", float)]),
    "an array of twenty axes": lambda: np.ones((1,) * 20),
    "a string of digits": lambda: "2",
    "a string of many letters": lambda: "a" * 10**5,
    "a string with a null": lambda: "a\0b",
    "a string of half a letter": lambda: "\ud800",
    "a list inside itself": _inside_itself,
    "an exception": lambda: ValueError("odd"),
    "a network": lambda: torch.nn.Linear(2, 2),
    "a module": lambda: math,
}
TENSORS = (SHAPES, LAYOUTS, VALUES, KINDS)


def odd_value(value: Any, rng: random.Random) -> tuple[Any, str]:
    """Return something that an argument does not expect, and a word for it.

    Args:
        value: what would be right.
        rng: draws it.
    """
    if isinstance(value, Tensor) and rng.random() < 0.85:
        return odd_tensor(value, rng)
    if isinstance(value, torch.nn.Module) and rng.random() < 0.7:
        return odd_network(rng.choice(list(NETWORKS)), value)
    if isinstance(value, list | tuple) and value and type(value) in (list, tuple) and rng.random() < 0.4:
        return _in_sequence(value, rng)
    word = rng.choice(list(SIMPLE))
    return SIMPLE[word](), word


def odd_values(value: Any) -> dict[str, Callable[[], Any]]:
    """Return all that an argument does not expect, by a word for each.

    Args:
        value: what would be right.
    """
    found = SIMPLE | FURTHER_SIMPLE
    if isinstance(value, Tensor):
        found |= {word: functools.partial(odd, value) for odds in (*TENSORS, FURTHER) for word, odd in odds.items()}
    if isinstance(value, torch.nn.Module):
        found |= {f"a network with {word}": functools.partial(odd, value) for word, odd in NETWORKS.items()}
    if type(value) in (list, tuple) and value:
        all_odd = SIMPLE | FURTHER_SIMPLE
        found |= {f"with {word} first": functools.partial(_with_first, value, make) for word, make in all_odd.items()}
        found |= {"with one left out": lambda: value[1:], "with one repeated": lambda: value + value[-1:]}
    return found


def _with_first(value: Any, make: Callable[[], Any]) -> Any:
    """Return a sequence with its first value replaced."""
    return type(value)([make(), *value[1:]])


def _in_sequence(value: Any, rng: random.Random) -> tuple[Any, str]:
    """Return a sequence with one of its values replaced, left out or repeated."""
    items, place = list(value), rng.randrange(len(value))
    way = rng.choice(["replaced", "left out", "repeated"])
    if way == "replaced":
        items[place], word = odd_value(items[place], rng)
        return type(value)(items), f"with {word} in place {place}"
    if way == "left out":
        del items[place]
    else:
        items.append(items[place])
    return type(value)(items), f"with one {way}"
