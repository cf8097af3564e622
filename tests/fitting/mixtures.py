"""Mixtures of every kind, and rows that they are fitted to."""

from collections.abc import Callable

import torch
from torch import nn

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    GaussianExperts,
    GLMExperts,
    HeterogeneousExperts,
    HeterogeneousOutputs,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    NeuralGate,
    ObjectDirichletGate,
    RandomEffectsExperts,
    RelevanceLinearExperts,
    SharedLinearExperts,
    SoftmaxGate,
    StickBreakingGate,
    TreeGate,
)
from mixpyro.experts.families import Gaussian
from mixpyro.fitting.table import Table
from tests.problems import lines

K = 3


GAMMA = torch.distributions.Gamma(2.0, 1.0)


def network(n_outputs: int) -> nn.Module:
    """A layer that starts at zero, so that every run of a fit does."""
    layer = nn.Linear(1, n_outputs).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    return layer


MIXTURES: dict[str, Callable[[], MixtureOfExperts]] = {
    "linear": lambda: MixtureOfExperts(DirichletGate(K, concentration=[1.0, 2.0, 0.5]), LinearExperts(K, 1)),
    "shared noise": lambda: MixtureOfExperts(DirichletGate(K), LinearExperts(K, 1, noise_per_component=False)),
    "relevance": lambda: MixtureOfExperts(DirichletGate(K), RelevanceLinearExperts(K, 1)),
    "random effects": lambda: MixtureOfExperts(DirichletGate(K), RandomEffectsExperts(K, 1, ["intercept", 0])),
    "gaussian": lambda: MixtureOfExperts(DirichletGate(K), GaussianExperts(K, 1)),
    "spherical": lambda: MixtureOfExperts(DirichletGate(K), GaussianExperts(K, 1, covariance="spherical")),
    "learnt concentration": lambda: MixtureOfExperts(DirichletGate(K, concentration_prior=GAMMA), LinearExperts(K, 1)),
    "sticks": lambda: MixtureOfExperts(StickBreakingGate(K), LinearExperts(K, 1)),
    "sticks, learnt": lambda: MixtureOfExperts(StickBreakingGate(K, concentration=GAMMA), LinearExperts(K, 1)),
    "an object each": lambda: MixtureOfExperts(ObjectDirichletGate(K, concentration=3.0), LinearExperts(K, 1)),
    "marginal": lambda: MixtureOfExperts(MarginalObjectDirichletGate(K, learn_mean=True), LinearExperts(K, 1)),
    "softmax and glm": lambda: MixtureOfExperts(
        SoftmaxGate(K, 1, prior_scale=3.0), GLMExperts(K, 1, Gaussian(), prior_scale=10.0)
    ),
    "tied": lambda: MixtureOfExperts(DirichletGate(K), GaussianExperts(K, 1, covariance="tied")),
    "shared slope": lambda: MixtureOfExperts(DirichletGate(K), SharedLinearExperts(K, 1, shared=[0])),
    "softmax and glm with a shared slope": lambda: MixtureOfExperts(
        SoftmaxGate(K, 1, prior_scale=3.0), GLMExperts(K, 1, Gaussian(), prior_scale=10.0, shared=[0, "scale"])
    ),
    "bayesian softmax": lambda: MixtureOfExperts(BayesianSoftmaxGate(K, 1), LinearExperts(K, 1)),
    "neural": lambda: MixtureOfExperts(NeuralGate(K, network(K), prior_scale=2.0), LinearExperts(K, 1)),
    "tree": lambda: MixtureOfExperts(TreeGate(((2, 0), 1), 1), LinearExperts(K, 1)),
    "heterogeneous": lambda: MixtureOfExperts(
        DirichletGate(K), HeterogeneousExperts([LinearExperts(2, 1), GaussianExperts(1, 1)])
    ),
    "outputs": lambda: MixtureOfExperts(DirichletGate(K), HeterogeneousOutputs([LinearExperts(K, 1)])),
}


def table(n_objects: int = 90, *, weighted: bool = False) -> Table:
    """Lines that overlap."""
    x, y, _ = lines(n_objects, K, noise=0.8)
    return Table(x, y, x, torch.rand(n_objects).double() if weighted else None)
