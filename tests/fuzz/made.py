"""Random gates, experts and rows of data: valid ones, of all kinds and sizes."""

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pyro.distributions import Gamma
from torch import Generator, Tensor, nn

from mixpyro import MixtureOfExperts, experts, gates
from mixpyro.experts import families
from mixpyro.experts.base import Experts
from mixpyro.gates import Gate


class Size(NamedTuple):
    """Sizes of a problem."""

    n_components: int
    n_features: int
    n_objects: int
    dtype: torch.dtype = torch.float64


class Problem(NamedTuple):
    """A mixture with rows that fit it."""

    mixture: MixtureOfExperts
    x: Tensor
    y: Tensor
    kinds: tuple[str, str]  # of the gate and of the experts


def network(n_inputs: int, n_outputs: int, seed: int = 0) -> nn.Module:
    """Return a small network of float64 whose parameters depend on nothing but the arguments.

    Args:
        n_inputs: columns that it reads.
        n_outputs: columns that it returns.
        seed: of its parameters.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(n_inputs, 3), nn.Tanh(), nn.Linear(3, n_outputs)).double()


def gamma() -> Gamma:
    """Return a prior of a concentration."""
    return Gamma(torch.tensor(2.0), torch.tensor(1.0))


# From K, the columns and the dtype; networks are of float64.
GATES: dict[str, Callable[[int, int, torch.dtype], Gate]] = {
    "dirichlet": lambda k, d, t: gates.DirichletGate(k, concentration=0.7, dtype=t),
    "dirichlet, learnt": lambda k, d, t: gates.DirichletGate(k, concentration_prior=gamma(), dtype=t),
    "sticks": lambda k, d, t: gates.StickBreakingGate(k, discount=0.2, dtype=t),
    "sticks, learnt": lambda k, d, t: gates.StickBreakingGate(k, concentration=gamma(), dtype=t),
    "object": lambda k, d, t: gates.ObjectDirichletGate(k, concentration=2.0, dtype=t),
    "object, learnt": lambda k, d, t: gates.ObjectDirichletGate(k, learn_mean=True, dtype=t),
    "marginal": lambda k, d, t: gates.MarginalObjectDirichletGate(k, learn_mean=True, dtype=t),
    "softmax": lambda k, d, t: gates.SoftmaxGate(k, d, dtype=t),
    "softmax, prior": lambda k, d, t: gates.SoftmaxGate(k, d, prior_scale=2.0, dtype=t),
    "bayesian": lambda k, d, t: gates.BayesianSoftmaxGate(k, d, dtype=t),
    "bayesian, relevance": lambda k, d, t: gates.BayesianSoftmaxGate(k, d, relevance=True, dtype=t),
    "tree": lambda k, d, t: gates.TreeGate(k, d, dtype=t),
    "neural": lambda k, d, t: gates.NeuralGate(k, network(d, k).to(t), prior_scale=2.0),
}
EXPERTS: dict[str, Callable[[int, int, torch.dtype], Experts]] = {
    "linear": lambda k, d, t: experts.LinearExperts(k, d, dtype=t),
    "linear, two outputs": lambda k, d, t: experts.LinearExperts(k, d, 2, noise_per_output=False, dtype=t),
    "relevance": lambda k, d, t: experts.RelevanceLinearExperts(k, d, dtype=t),
    "shared": lambda k, d, t: experts.SharedLinearExperts(k, d, shared=[0], dtype=t),
    "gaussian": lambda k, d, t: experts.GaussianExperts(k, 2, dtype=t),
    "diagonal": lambda k, d, t: experts.GaussianExperts(k, 2, covariance="diagonal", dtype=t),
    "tied": lambda k, d, t: experts.GaussianExperts(k, 2, covariance="tied", dtype=t),
    "random effects": lambda k, d, t: experts.RandomEffectsExperts(k, d, dtype=t),
    "glm": lambda k, d, t: experts.GLMExperts(k, d, families.Gaussian(), prior_scale=3.0, dtype=t),
    "student": lambda k, d, t: experts.GLMExperts(k, d, families.StudentT(), prior_scale=3.0, dtype=t),
    "poisson": lambda k, d, t: experts.GLMExperts(k, d, families.Poisson(), dtype=t),
    "poisson, exposure": lambda k, d, t: experts.GLMExperts(k, d, families.Poisson(), exposure=True, dtype=t),
    "truncated": lambda k, d, t: experts.GLMExperts(k, d, families.ZeroTruncatedPoisson(), prior_scale=3.0, dtype=t),
    "negative binomial": lambda k, d, t: experts.GLMExperts(k, d, families.NegativeBinomial(), dtype=t),
    "binomial": lambda k, d, t: experts.GLMExperts(k, d, families.Binomial(), prior_scale=3.0, dtype=t),
    "categorical": lambda k, d, t: experts.GLMExperts(k, d, families.Categorical(3), prior_scale=3.0, dtype=t),
    "multinomial": lambda k, d, t: experts.GLMExperts(k, d, families.Multinomial(3), prior_scale=3.0, dtype=t),
    "censored": lambda k, d, t: experts.GLMExperts(k, d, families.CensoredGaussian(), prior_scale=3.0, dtype=t),
    "neural": lambda k, d, t: experts.NeuralExperts(
        k, d, [network(d, 1, j).to(t) for j in range(k)], families.Gaussian(), prior_scale=2.0
    ),
    "heterogeneous": lambda k, d, t: experts.HeterogeneousExperts(
        [experts.LinearExperts(k - 1, d, dtype=t), experts.GaussianExperts(1, 1, dtype=t)]
    ),
    "inflated": lambda k, d, t: experts.HeterogeneousExperts(
        [experts.PointMassExperts(1, dtype=t), experts.GLMExperts(k - 1, d, families.Poisson(), dtype=t)]
    ),
    "outputs": lambda k, d, t: experts.HeterogeneousOutputs(
        [experts.GLMExperts(k, d, families.Poisson(), dtype=t), experts.LinearExperts(k, d, dtype=t)]
    ),
}
MEMBERS = ("heterogeneous", "inflated")
# Gates that need a column.
READING = ("neural", "tree", "bayesian", "bayesian, relevance", "softmax", "softmax, prior")
# The experts whose first column of x is not a regressor, but trials or an exposure.
LIFTED = ("poisson, exposure",)


def sizes(rng: random.Random, *, small: bool = False) -> Size:
    """Return random sizes.

    Args:
        rng: draws them.
        small: whether fits of them take well below a second.
    """
    k = rng.choice([1, 2, 2, 3] if small else [1, 2, 2, 2, 3, 5, 50])
    d = rng.choice([1, 2, 2, 3] if small else [0, 1, 2, 2, 3, 7])
    n = rng.choice([12, 25, 40] if small else [1, 2, 5, 20, 20, 40])
    return Size(k, d, n, rng.choice([torch.float64, torch.float64, torch.float32]))


def columns_of(kind: str, n_features: int) -> int:
    """Return how many columns x has for experts that read some number of regressors.

    Args:
        kind: one of `EXPERTS`.
        n_features: regressors.
    """
    return n_features + (kind in LIFTED)


def rows(kind: str, size: Size, seed: int) -> tuple[Tensor, Tensor]:
    """Return x [N, D] and y [N, P] of two kinds of rows, in the support of experts.

    Args:
        kind: one of `EXPERTS`.
        size: N, D and the dtype.
        seed: of the rows.
    """
    generator = Generator().manual_seed(seed)
    n, d = size.n_objects, size.n_features
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    side = torch.where(noise[:, 1] > 0, 1.0, -1.0)
    y = side * (2.0 + x.sum(1)) + 0.3 * noise[:, 0]
    counts = y.abs().round()
    found = {
        "linear, two outputs": torch.stack([y, side + noise[:, 0]], 1),
        "gaussian": torch.stack([y, side + noise[:, 0]], 1),
        "diagonal": torch.stack([y, side + noise[:, 0]], 1),
        "tied": torch.stack([y, side + noise[:, 0]], 1),
        "poisson": counts,
        "poisson, exposure": counts,
        "truncated": counts + 1.0,
        "negative binomial": counts,
        "inflated": counts,
        "binomial": (y > 0).double(),
        "categorical": counts.clamp(max=2.0),
        "multinomial": torch.stack([counts % 3 == 0, counts % 3 == 1, counts % 3 == 2], 1).double(),
        "censored": torch.stack([y, y + (side > 0)], 1),
        "outputs": torch.stack([counts, y], 1),
    }.get(kind, y)
    if kind in LIFTED:
        x = torch.cat([x, 1.0 + torch.rand(n, 1, generator=generator, dtype=torch.float64)], 1)
    return x.to(size.dtype), found.to(size.dtype)


def problem(rng: random.Random, *, small: bool = False) -> Problem:
    """Return a mixture that has seen no data, with rows for it.

    Args:
        rng: draws its kinds and sizes.
        small: whether fits of it take well below a second.
    """
    gate, bank = rng.choice(list(GATES)), rng.choice(list(EXPERTS))
    size = sizes(rng, small=small)
    if (size.n_components == 1 and (bank in MEMBERS or gate == "tree")) or (gate in READING and not size.n_features):
        size = size._replace(n_components=2, n_features=max(size.n_features, 1))
    if bank in ("shared", "relevance") and not size.n_features:
        size = size._replace(n_features=1)
    if size.n_components > 5 and bank in ("neural", "random effects"):
        size = size._replace(n_components=3)
    if bank == "random effects":
        gate = rng.choice(["dirichlet", "sticks"])
    part = torch.float64
    x, y = rows(bank, size, rng.randrange(10**6))
    mixture = MixtureOfExperts(
        GATES[gate](size.n_components, x.shape[1], part), EXPERTS[bank](size.n_components, size.n_features, part)
    )
    return Problem(mixture, x, y, (gate, bank))


def arguments_of_rows(problem: Problem, rng: random.Random, *, groups: bool = True) -> dict[str, Any]:
    """Return x and y of a problem by name.

    Args:
        problem: with rows.
        rng: draws whether there are groups.
        groups: whether there may be.
    """
    found: dict[str, Any] = {"x": problem.x, "y": problem.y}
    needs = problem.kinds[1] == "random effects"
    if needs or (groups and not problem.mixture.gate.reads_inputs and rng.random() < 0.2):
        found["groups"] = [number // 2 for number in range(len(problem.x))]
    return found
