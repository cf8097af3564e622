"""Small fitted mixtures for the tests of diagnostics."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mixpyro import (
    DirichletGate,
    FitResult,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    NeuralGate,
    ObjectDirichletGate,
    fit,
)
from mixpyro.gates import Gate
from tests.problems import lines

GATES: dict[str, Callable[[int], Gate]] = {
    "dirichlet": lambda k: DirichletGate(k, concentration=2.0),
    "object": lambda k: ObjectDirichletGate(k, concentration=20.0),
    "marginal": lambda k: MarginalObjectDirichletGate(k, mean=[float(1 + number) for number in range(k)]),
    "neural": lambda k: NeuralGate(k, nn.Linear(1, k).double(), prior_scale=1.0),
}


def gate(name: str, n_components: int = 2) -> Gate:
    """One of the gates."""
    return GATES[name](n_components)


@functools.cache
def fitted(
    name: str = "dirichlet", n_components: int = 2, n_objects: int = 40, n_outputs: int = 1
) -> tuple[FitResult, Tensor, Tensor]:
    """Lines under a gate, fitted; with x [N, 1] and y [N, P]."""
    torch.manual_seed(0)
    x, y, z = lines(n_objects, n_components, n_outputs=n_outputs)
    mixture = MixtureOfExperts(gate(name, n_components), LinearExperts(n_components, 1, n_outputs))
    start = nn.functional.one_hot(z, n_components).double() + 0.1
    return fit(mixture, x, y, initial_responsibilities=start, progress=False), x, y
