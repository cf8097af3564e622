"""Fitted mixtures, made once in a process: each call gets a copy of its own."""

import copy
import functools
import random
import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixpyro import FitResult, MixtureOfExperts, fit
from tests.fuzz.made import EXPERTS, GATES, MEMBERS, Size, rows

QUICK: dict[str, Any] = {
    "n_restarts": 1,
    "n_candidates": 1,
    "max_iterations": 8,
    "n_gradient_steps": 4,
    "progress": False,
}
N, K, D = 24, 2, 2


class Fitted(NamedTuple):
    """A fit with its rows."""

    result: FitResult
    x: Tensor
    y: Tensor
    groups: list[int] | None
    kinds: tuple[str, str]


@functools.cache
def _fitted(gate: str, bank: str, grouped: bool) -> Fitted:
    """Fit two components of a kind to 24 rows."""
    x, y = rows(bank, Size(K, D, N), seed=1)
    mixture = MixtureOfExperts(GATES[gate](K, x.shape[1], torch.float64), EXPERTS[bank](K, D, torch.float64))
    groups = [number // 2 for number in range(N)] if grouped else None
    with torch.random.fork_rng([]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        return Fitted(fit(mixture, x, y, groups=groups, **QUICK), x, y, groups, (gate, bank))


def fitted(rng: random.Random, *, gates: tuple[str, ...] = (), banks: tuple[str, ...] = ()) -> Fitted:
    """Return a copy of a fit.

    Args:
        rng: draws which.
        gates: kinds to choose from; all by default.
        banks: kinds to choose from; all by default.
    """
    gate, bank = rng.choice(gates or tuple(GATES)), rng.choice(banks or tuple(EXPERTS))
    grouped = bank == "random effects" or (not gates and bank not in MEMBERS and rng.random() < 0.1)
    if grouped:
        gate = rng.choice(["dirichlet", "sticks"])
    made = _fitted(gate, bank, grouped)
    return made._replace(result=copy.deepcopy(made.result), x=made.x.clone(), y=made.y.clone())


def rows_of(made: Fitted, rng: random.Random, *, y: bool = True, n: int | None = None) -> dict[str, Any]:
    """Return the rows of a fit as arguments, or some of them.

    Args:
        made: the fit.
        rng: draws how many rows where that is free.
        y: whether outputs are among them.
        n: how many rows; random by default.
    """
    n = rng.choice([1, 6, N]) if n is None else n
    found: dict[str, Any] = {"x": made.x[:n]} | ({"y": made.y[:n]} if y else {})
    if made.groups is not None and y:
        found["groups"] = made.groups[:n]
    return found
