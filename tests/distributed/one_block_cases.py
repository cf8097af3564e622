"""What the worker processes do with rows that every rank has, as one block or because updates read them."""

import warnings
from collections.abc import Callable
from typing import Any

import torch

from mixpyro import (
    DirichletGate,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    NeuralExperts,
    ObjectDirichletGate,
    RandomEffectsExperts,
    StickBreakingGate,
    fit,
)
from mixpyro.distributed import blocks
from mixpyro.experts.families import Gaussian, Poisson
from tests.distributed import cases
from tests.distributed.cases import CUTS, SMALL, K, N, compared, data, network, shard

MIXTURES: dict[str, Callable[[], MixtureOfExperts]] = {
    **cases.MIXTURES,
    "object dirichlet, poisson": lambda: MixtureOfExperts(ObjectDirichletGate(K), GLMExperts(K, 2, Poisson())),
    "learnt mean, linear": lambda: MixtureOfExperts(ObjectDirichletGate(K, learn_mean=True), LinearExperts(K, 2)),
    "dirichlet, random effects": lambda: MixtureOfExperts(DirichletGate(K), RandomEffectsExperts(K, 2)),
    "sticks, neural": lambda: MixtureOfExperts(
        StickBreakingGate(K), NeuralExperts(K, 2, network(K), Gaussian(), prior_scale=2.0)
    ),
}


def rows(name: str) -> dict[str, Any]:
    """Rows of a case; some that have weight zero, all of one rank's among them."""
    given = data(name)
    if "zero" in name:
        weights = torch.rand(N, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.1
        weights[::5], weights[CUTS[4][1] : CUTS[4][2]] = 0.0, 0.0
        given["weights"] = weights
    if "groups" in name:
        firsts = torch.tensor([int((given["groups"] == one).nonzero()[0, 0]) for one in given["groups"]])
        given["gate_x"] = given["x"][firsts]
    return given


def fitted(rank: int, size: int, group: Any, name: str, limits: blocks.Limits) -> dict[str, Any]:
    """What a fit finds, with responsibilities of every optimum; blocks as the limits say."""
    blocks.LIMITS = limits
    try:
        by_gradient = "neural" in name or "learnt" in name
        n_restarts, n_iterations = (2, 2) if by_gradient else (3, 8)
        options: dict[str, Any] = {"n_restarts": n_restarts, "max_iterations": n_iterations, "n_gradient_steps": 2}
        options |= {"n_candidates": 1} if by_gradient else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mixture = MIXTURES[name.split(" with ")[0]]()
            result = fit(mixture, **shard(rows(name), rank, size), progress=False, process_group=group, **options)
    finally:
        blocks.LIMITS = SMALL
    others = [one.responsibilities for one in result.optima[1:]]
    return compared(result) | {"others": others}
