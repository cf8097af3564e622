"""Every call of a grid: each argument of each function, replaced by each odd value."""

import functools
import random
from typing import NamedTuple

from tests.fuzz.call import Call
from tests.fuzz.cases import likely, made, names_of_arguments, targets
from tests.fuzz.odd_values import odd_values


class Cell(NamedTuple):
    """What is replaced in one call of a grid."""

    target: str
    variant: int  # of the right call
    argument: str
    word: str  # for what replaces the argument


@functools.cache
def cells(seed: int, variants: int, only: str = "") -> tuple[Cell, ...]:
    """Return all cells of a grid.

    Args:
        seed: of the right calls.
        variants: how many right calls there are of each function.
        only: part of the names of the functions to call.
    """
    return tuple(
        Cell(target, variant, argument, word)
        for target in targets(only)
        for variant in range(variants)
        for call in [_right_call(seed, target, variant)]
        for argument in names_of_arguments(call)
        for word in odd_values(likely(argument, call.arguments))
    )


def case_of_grid(seed: int, number: int, *, variants: int, only: str = "") -> Call:
    """Return the call of one cell.

    Args:
        seed: of the right calls.
        number: of the cell.
        variants: how many right calls there are of each function.
        only: part of the names of the functions to call.
    """
    cell = cells(seed, variants, only)[number]
    call = _right_call(seed, cell.target, cell.variant)
    odd = odd_values(likely(cell.argument, call.arguments))[cell.word]
    try:
        call.arguments[cell.argument], call.replaced[cell.argument] = odd(), cell.word
    except (RuntimeError, TypeError, IndexError, ValueError):  # this tensor cannot be made to differ so
        call.replaced.clear()
    return call


def _right_call(seed: int, target: str, variant: int) -> Call:
    """Return one of the right calls of a function."""
    return made(target, random.Random(f"{seed} {target} {variant}"))
