"""Arguments of other types than a function declares are refused by name, before anything else happens."""

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mixpyro.arguments import declared

pytestmark = pytest.mark.usefixtures("bad_arguments")


class WithoutText:
    """An object whose text fails."""

    def __repr__(self) -> str:
        raise ValueError("no text")


class Color(enum.Enum):
    """A class that can be gone through, and whose values cannot."""

    RED = 1


@declared
def public(
    flag: bool = True,
    number: int = 1,
    word: str | None = None,
    network: nn.Module | None = None,
    function: Callable[[int], int] = abs,
    numbers: Sequence[int] = (),
    by_name: Mapping[str, Tensor] | None = None,
    blocks: Iterable[np.ndarray] = (),
    path: str | PathLike[str] = "",
    data: object = None,
    scale: float = 1.0,
) -> str:
    """Return a word, after a computation that must not begin with wrong arguments."""
    return "computed"


@pytest.mark.parametrize(
    "given",
    [
        {"flag": np.bool_(True), "number": np.int64(2), "word": "one", "network": nn.Identity()},
        {"function": lambda number: number, "numbers": [1, np.int32(2)], "by_name": {"one": torch.zeros(1)}},
        {"numbers": np.array([1, 2]), "blocks": (block for block in [np.zeros(1)]), "path": Path("one")},
        {"numbers": torch.tensor([1]), "data": object(), "scale": torch.tensor(1.0), "by_name": None},
    ],
)
def test_what_is_declared_is_taken(given: dict[str, Any]) -> None:
    assert public(**given) == "computed"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("flag", 1, "True or False; got 1 of type int"),
        ("flag", np.array([True, False]), r"True or False; got array\(\[ True, False\]\) of type ndarray"),
        ("number", 2.0, "an integer; got 2.0 of type float"),
        ("number", True, "an integer; got True of type bool"),
        ("word", torch.zeros(2, device="meta"), "a string; got .* of type Tensor"),
        ("network", abs, "a Module; got <built-in function abs>"),
        ("function", 3, "a function; got 3"),
        ("function", nn.ModuleList(), "a function; got ModuleList"),
        ("numbers", Color.RED, "a sequence of integers; got <Color.RED: 1>"),
        ("numbers", np.dtype("f8"), "a sequence of integers; got dtype"),
        ("blocks", Color.RED, "a sequence whose values are each an array; got <Color.RED: 1>"),
        ("numbers", "12", "a sequence of integers; got '12'"),
        ("numbers", [1, "two"], r"a sequence of integers; got \[1, 'two'\]"),
        ("numbers", np.array(1), "a sequence of integers"),
        ("by_name", {"one": 1.0}, r"a mapping of tensors; got \{'one': 1.0\}"),
        ("blocks", 0.5, "a sequence whose values are each an array; got 0.5"),
        ("path", b"one", "a string or a path; got b'one'"),
        ("flag", WithoutText(), "True or False; got .* of type WithoutText"),
    ],
)
def test_what_is_not_declared_is_refused_by_name(name: str, value: object, words: str) -> None:
    with pytest.raises(TypeError, match=f"`{name}` must be {words}"):
        public(**{name: value})  # type: ignore[arg-type]


def test_arguments_by_position_are_checked() -> None:
    with pytest.raises(TypeError, match=r"`number` must be an integer; got .two."):
        public(True, "two")  # type: ignore[arg-type]
