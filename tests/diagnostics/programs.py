"""A mixture of two Normals as a Pyro program, with draws of it and its log likelihood by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.ops.indexing import Vindex
from torch import Tensor

from mixpyro import DirichletGate
from mixpyro.diagnostics import program_to_arviz
from mixpyro.diagnostics.arviz_versions import group

N, T, S = 9, 4, 25
GATE = DirichletGate(2)


def normal(location: Any, scale: float = 1.0) -> dist.Normal:
    """Return a Normal in float64."""
    return dist.Normal(torch.as_tensor(location, dtype=torch.float64), scale)


def numbers(*shape: int) -> Tensor:
    """Return the same standard Normal numbers at each call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def some_rows() -> Any:
    """Return True for two rows of three [N]; Pyro's types want a BoolTensor."""
    return torch.arange(N) % 3 > 0


def draws_of_mixture() -> dict[str, Tensor]:
    """Return draws of means and weights, [1, S, 2] each."""
    weights = (0.5 * numbers(1, S, 2)).softmax(-1)
    return {"means": 2.0 * numbers(1, S, 2), "gate.weights": weights}


def log_prior() -> Tensor:
    """Return log p(θ) of these draws [S]; a Dirichlet(1, 1) has the density one."""
    return normal(0.0, 5.0).log_prob(draws_of_mixture()["means"][0]).sum(-1)


def mixed(log_density_of_components: Tensor) -> np.ndarray:
    """Return log Σₖ πₖ exp(…) [S, N] of log densities [S, N, 2]."""
    log_weights = draws_of_mixture()["gate.weights"][0].log().unsqueeze(1)
    return (log_weights + log_density_of_components).logsumexp(-1).numpy()


def a_mixture(likelihood: Callable[[Tensor, pyro.plate], None]) -> Callable[[Tensor], None]:
    """Return a program with two means, whose likelihood is given the mean of each object's component."""

    def model(y: Tensor) -> None:
        means = pyro.sample("means", normal([0.0, 0.0], 5.0).to_event(1))
        plate = pyro.plate("objects", N, dim=-1)
        z = GATE.model(y.reshape(N, -1), plate=plate)
        likelihood(Vindex(means)[..., z], plate)

    return model


def converted(likelihood: Callable[[Tensor, pyro.plate], None], y: Tensor) -> Any:
    """Return what a program of :func:`a_mixture` becomes."""
    return program_to_arviz(a_mixture(likelihood), y, samples=draws_of_mixture(), n_draws=10)


def of(data: Any, name: str, variable: str) -> np.ndarray:
    """Return the only chain of a variable."""
    return np.asarray(group(data, name)[variable].values[0])


def by_component(y: Tensor, scale: float = 1.0) -> Tensor:
    """Return log Normal(yᵢ; mₖ, scale) [S, N, 2]."""
    return normal(draws_of_mixture()["means"][0].unsqueeze(1), scale).log_prob(y[:, None])
