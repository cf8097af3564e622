"""Small fitted mixtures for the tests of diagnostics."""

import copy
import functools
from collections.abc import Callable

import torch
from pyro.distributions import Gamma
from torch import Tensor, nn

from mixpyro import (
    DirichletGate,
    FitResult,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    NeuralGate,
    ObjectDirichletGate,
    StickBreakingGate,
    fit,
)
from mixpyro.gates import Gate
from tests.problems import lines

GATES: dict[str, Callable[[int], Gate]] = {
    "dirichlet": lambda k: DirichletGate(k, concentration=2.0),
    "sticks": lambda k: StickBreakingGate(k, discount=0.1),
    "sticks, learnt": lambda k: StickBreakingGate(k, concentration=Gamma(2.0, 1.0)),
    "object": lambda k: ObjectDirichletGate(k, concentration=20.0),
    "marginal": lambda k: MarginalObjectDirichletGate(k, mean=[float(1 + number) for number in range(k)]),
    "neural": lambda k: NeuralGate(k, nn.Linear(1, k).double(), prior_scale=1.0),
}


def gate(name: str, n_components: int = 2) -> Gate:
    """Return one of the gates."""
    return GATES[name](n_components)


@functools.cache
def fitted(
    name: str = "dirichlet", n_components: int = 2, n_objects: int = 40, n_outputs: int = 1
) -> tuple[FitResult, Tensor, Tensor]:
    """Fit lines under a gate; return the fit with x [N, 1] and y [N, P]."""
    torch.manual_seed(0)
    x, y, z = lines(n_objects, n_components, n_outputs=n_outputs)
    mixture = MixtureOfExperts(gate(name, n_components), LinearExperts(n_components, 1, n_outputs))
    start = nn.functional.one_hot(z, n_components).double() + 0.1
    return fit(mixture, x, y, initial_responsibilities=start, progress=False), x, y


def two_lines(x: Tensor, y: Tensor, n_components: int = 2, *, precision: float = 0.01, rate: float = 0.01) -> FitResult:
    """Fit lines under Dirichlet(½) weights, as in tests/fitting/test_known_answers.py."""
    experts = LinearExperts(n_components, 1, coefficient_precision=precision, noise_rate=rate)
    return fit(
        MixtureOfExperts(DirichletGate(n_components, concentration=0.5), experts), x, y, n_restarts=8, progress=False
    )


def narrowed(result: FitResult, x: Tensor, y: Tensor, factor: float) -> MixtureOfExperts:
    """Return a mixture whose posterior counts every row ``factor`` times, so variances are that much smaller."""
    mixture = copy.deepcopy(result.mixture)
    counts = factor * result.responsibilities
    mixture.gate.update(mixture.gate.statistics(x, counts))
    mixture.experts.update(mixture.experts.statistics(x, y, counts))
    return mixture
