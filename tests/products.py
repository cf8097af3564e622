"""Every gate and every family of experts, small, in states that are not their first ones."""

from collections.abc import Callable

import torch
from pyro.distributions import Gamma
from torch import Generator, Tensor, nn

from mixpyro.experts import (
    GaussianExperts,
    GLMExperts,
    HeterogeneousExperts,
    HeterogeneousOutputs,
    LinearExperts,
    NeuralExperts,
    PointMassExperts,
    RelevanceLinearExperts,
)
from mixpyro.experts.base import Experts
from mixpyro.experts.families import Binomial, Categorical, Gaussian, NegativeBinomial, Poisson, StudentT
from mixpyro.fitting.fit import fit
from mixpyro.gates import (
    DirichletGate,
    Gate,
    MarginalObjectDirichletGate,
    NeuralGate,
    ObjectDirichletGate,
    SoftmaxGate,
    StickBreakingGate,
    TreeGate,
)
from mixpyro.mixture import MixtureOfExperts

K, D, N = 2, 2, 40


def _network(n_outputs: int, seed: int) -> nn.Module:
    """A small network of the same parameters at every call, on the CPU."""
    with torch.random.fork_rng([]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        return nn.Sequential(nn.Linear(D, 4), nn.Tanh(), nn.Linear(4, n_outputs)).double()


def _gamma() -> Gamma:
    """A prior of a Dirichlet's concentration, on the CPU."""
    return Gamma(torch.tensor(2.0, device="cpu"), torch.tensor(1.0, device="cpu"))


GATES: dict[str, Callable[[], Gate]] = {
    "dirichlet": lambda: DirichletGate(K),
    "dirichlet, learnt": lambda: DirichletGate(K, concentration_prior=_gamma()),
    "sticks": lambda: StickBreakingGate(K, discount=0.2),
    "sticks, learnt": lambda: StickBreakingGate(K, concentration=_gamma()),
    "object": lambda: ObjectDirichletGate(K, concentration=2.0),
    "object, learnt": lambda: ObjectDirichletGate(K, concentration=2.0, learn_mean=True),
    "marginal": lambda: MarginalObjectDirichletGate(K, learn_mean=True),
    "softmax": lambda: SoftmaxGate(K, D),
    "softmax, prior": lambda: SoftmaxGate(K, D, prior_scale=2.0),
    "tree": lambda: TreeGate(K, D),
    "neural": lambda: NeuralGate(K, _network(K, 1), prior_scale=2.0),
}
EXPERTS: dict[str, Callable[[], Experts]] = {
    "linear": lambda: LinearExperts(K, D),
    "linear, shared noise": lambda: LinearExperts(K, D, noise_per_component=False, noise_per_output=False),
    "relevance": lambda: RelevanceLinearExperts(K, D),
    "gaussian": lambda: GaussianExperts(K, 1),
    "diagonal": lambda: GaussianExperts(K, 1, covariance="diagonal"),
    "spherical": lambda: GaussianExperts(K, 1, covariance="spherical"),
    "glm": lambda: GLMExperts(K, D, Gaussian(), prior_scale=3.0),
    "student": lambda: GLMExperts(K, D, StudentT(), prior_scale=3.0),
    "poisson": lambda: GLMExperts(K, D, Poisson(), prior_scale=3.0),
    "negative binomial": lambda: GLMExperts(K, D, NegativeBinomial(), prior_scale=3.0),
    "binomial": lambda: GLMExperts(K, D, Binomial(), prior_scale=3.0),
    "categorical": lambda: GLMExperts(K, D, Categorical(3), prior_scale=3.0),
    "neural": lambda: NeuralExperts(K, D, [_network(1, 2), _network(1, 3)], Gaussian(), prior_scale=2.0),
    "heterogeneous": lambda: HeterogeneousExperts([LinearExperts(1, D), GaussianExperts(1, 1)]),
    "inflated": lambda: HeterogeneousExperts([PointMassExperts(1), GLMExperts(1, D, Poisson(), prior_scale=3.0)]),
    "outputs": lambda: HeterogeneousOutputs([GLMExperts(K, D, Poisson(), prior_scale=3.0), LinearExperts(K, D)]),
}
COUNTS = {"poisson", "negative binomial", "binomial", "categorical", "inflated"}
# Every gate and every family of experts, of which neither knows the other.
PAIRS = [
    ("dirichlet", "linear"),
    ("dirichlet", "binomial"),
    ("dirichlet, learnt", "poisson"),
    ("sticks", "linear"),
    ("sticks, learnt", "gaussian"),
    ("object", "gaussian"),
    ("object, learnt", "diagonal"),
    ("marginal", "neural"),
    ("marginal", "spherical"),
    ("softmax", "linear, shared noise"),
    ("softmax, prior", "relevance"),
    ("softmax, prior", "categorical"),
    ("softmax, prior", "heterogeneous"),
    ("sticks", "outputs"),
    ("tree", "linear"),
    ("tree", "poisson"),
    ("neural", "glm"),
    ("neural", "inflated"),
    ("dirichlet", "negative binomial"),
    ("sticks, learnt", "student"),
]


def data(experts: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Rows of two groups, x [N, D] and y [N], or [N, P], in the support of the experts; always on the CPU."""
    generator = Generator("cpu").manual_seed(0)
    x = torch.randn(N, D, generator=generator, dtype=torch.float64, device="cpu")
    noise = torch.randn(N, generator=generator, dtype=torch.float64, device="cpu")
    y = torch.where(x[:, 1] > 0, 1.0 + 2.0 * x[:, 0], -1.0 - x[:, 0]) + 0.3 * noise
    if experts in COUNTS:
        y = y.clamp(0.0, 4.0).round() if experts in ("inflated", "negative binomial") else (y > 0).double()
    if experts == "outputs":
        y = torch.stack([y.abs().round(), y], 1)
    return x.to(dtype), y.to(dtype)


def mixture(gate: str, experts: str, *, name: str = "") -> MixtureOfExperts:
    """A mixture of two components that has seen no data."""
    return MixtureOfExperts(GATES[gate](), EXPERTS[experts](), name=name)


def fitted(
    gate: str, experts: str, *, dtype: torch.dtype = torch.float64, name: str = "", own_inputs: bool = False
) -> MixtureOfExperts:
    """A mixture after a few iterations on its data; with inputs of its own, the gate reads x in another order."""
    result, (x, y) = mixture(gate, experts, name=name), data(experts, dtype)
    fit(
        result,
        x,
        y,
        gate_x=x.flip(1) if own_inputs else None,
        n_restarts=1,
        n_candidates=1,
        max_iterations=5,
        n_gradient_steps=5,
        progress=False,
    )
    return result
