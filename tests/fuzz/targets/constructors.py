"""Constructors of gates, experts, families and mixtures."""

import random
from typing import Any

import torch

import mixpyro
from mixpyro import experts, gates
from mixpyro.experts import families
from tests.fuzz.call import Call
from tests.fuzz.made import gamma, network, problem

TREE = (0, (1, 2))
GATES: dict[type, tuple[dict[str, Any], ...]] = {
    gates.DirichletGate: (
        {"n_components": 3, "batch_shape": (2,), "concentration": [1.0, 2.0, 3.0]},
        {"n_components": 2, "concentration_prior": None},
        {"n_components": 2, "concentration": 1.5, "name": "other"},
    ),
    gates.StickBreakingGate: ({"n_components": 4, "concentration": 2.0, "discount": 0.3}, {"n_components": 2}),
    gates.ObjectDirichletGate: (
        {"n_components": 3, "concentration": 2.0, "mean": [0.2, 0.3, 0.5], "learn_mean": True},
        {"n_components": 2},
    ),
    gates.MarginalObjectDirichletGate: ({"n_components": 3, "concentration": 2.0, "mean": [0.2, 0.3, 0.5]},),
    gates.SoftmaxGate: ({"n_components": 3, "n_features": 2, "prior_scale": 2.0}, {"n_components": 2, "n_features": 1}),
    gates.BayesianSoftmaxGate: (
        {"n_components": 3, "n_features": 2, "prior_scale": 2.0, "symmetric_prior": False, "quadrature": True},
        {"n_components": 2, "n_features": 2, "relevance": True},
    ),
    gates.TreeGate: ({"tree": TREE, "n_features": 2, "prior_scale": 2.0}, {"tree": 4, "n_features": 1}),
}
PRECISE: dict[str, Any] = {"device": "cpu", "dtype": torch.float64}
LINEAR: dict[str, Any] = {
    "n_components": 2,
    "n_features": 2,
    "n_outputs": 2,
    "intercept": True,
    "coefficient_mean": 0.0,
    "noise_per_output": True,
    "noise_shape": 2.0,
    "noise_rate": [1.0, 2.0],
}
EXPERTS: dict[type, dict[str, Any]] = {
    experts.LinearExperts: {**LINEAR, "coefficient_precision": [1.0, 2.0, 3.0], "noise_per_component": True},
    experts.RelevanceLinearExperts: {
        **LINEAR,
        "coefficient_precision": 1.0,
        "column_precision_shape": 1.0,
        "column_precision_rate": 1.0,
        "noise_per_component": True,
    },
    experts.SharedLinearExperts: {**LINEAR, "coefficient_precision": 1.0, "shared": [0]},
    experts.GaussianExperts: {
        "n_components": 2,
        "n_outputs": 2,
        "covariance": "full",
        "mean": [0.0, 1.0],
        "mean_precision": 0.1,
        "degrees_of_freedom": 4.0,
        "scale": [1.0, 1.0],
    },
    experts.RandomEffectsExperts: {
        "n_components": 2,
        "n_features": 2,
        "random_effects": ("intercept", 0),
        "noise_per_component": True,
        "covariance_per_component": True,
        "effect_degrees": 4.0,
        "effect_scale": 1.0,
    },
    experts.GLMExperts: {
        "n_components": 2,
        "n_features": 2,
        "family": families.Poisson(),
        "exposure": False,
        "prior_scale": 2.0,
        "shared": (0,),
    },
    experts.PointMassExperts: {"n_components": 2, "values": [0.0, 1.0], "n_outputs": 1},
}


def _construction(cls: type, given: dict[str, Any], name: str = "") -> Call:
    """Return the call that makes an object."""
    return Call(name or cls.__name__, cls, given, adopts=("gate", "experts", "members", "network", "features"))


def _gate(cls: type) -> Any:
    """Return a maker of calls of a gate's constructor."""
    return lambda rng: _construction(cls, {**rng.choice(GATES[cls]), **PRECISE})


def _experts(cls: type) -> Any:
    """Return a maker of calls of a bank's constructor."""
    return lambda rng: _construction(cls, {**EXPERTS[cls], **PRECISE})


def learnt_dirichlet(rng: random.Random) -> Call:
    """A Dirichlet gate that learns its concentration."""
    return _construction(gates.DirichletGate, {"n_components": 2, "concentration_prior": gamma()})


def learnt_sticks(rng: random.Random) -> Call:
    """Sticks that learn their concentration."""
    return _construction(gates.StickBreakingGate, {"n_components": 2, "concentration": gamma()})


def neural_gate(rng: random.Random) -> Call:
    """A gate of a network."""
    return _construction(gates.NeuralGate, {"n_components": 3, "network": network(2, 3), "prior_scale": 2.0})


def gate_of_features(rng: random.Random) -> Call:
    """A Bayesian gate of features that a network makes."""
    given = {"n_components": 2, "n_features": 3, "features": network(3, 2)}
    return _construction(gates.BayesianSoftmaxGate, given)


def neural_experts(rng: random.Random) -> Call:
    """Experts of networks."""
    own = rng.choice([network(2, 2), [network(2, 1), network(2, 1, 1)]])
    given = {"n_components": 2, "n_features": 2, "network": own, "family": families.Gaussian(), "prior_scale": 2.0}
    return _construction(experts.NeuralExperts, given)


def heterogeneous(rng: random.Random) -> Call:
    """Banks of several kinds."""
    cls = rng.choice([experts.HeterogeneousExperts, experts.HeterogeneousOutputs])
    return _construction(cls, {"members": [experts.LinearExperts(2, 1), experts.GaussianExperts(2, 1)]})


def mixture(rng: random.Random) -> Call:
    """A mixture of a gate and experts."""
    made = problem(rng, small=True).mixture
    given = {"gate": made.gate, "experts": made.experts, "name": rng.choice(["", "first"])}
    return _construction(mixpyro.MixtureOfExperts, given)


def family(rng: random.Random) -> Call:
    """A family of densities."""
    name = rng.choice([name for name in families.__all__ if name != "Family"])
    given = {"n_categories": 3} if name in ("Categorical", "Multinomial") else {}
    return _construction(getattr(families, name), given, "families")


def groups(rng: random.Random) -> Call:
    """Groups of rows."""
    ids = rng.choice([[1, 1, 2], ["a", "b", "a"], torch.tensor([3, 3, 1])])
    return Call("Groups.of", mixpyro.Groups.of, {"ids": ids, "like": torch.zeros(3, 1)})


def robbins_monro(rng: random.Random) -> Call:
    """Step sizes of a stream."""
    return _construction(mixpyro.RobbinsMonro, {"delay": 1.0, "decay": 0.7})


MAKERS = {
    **{f"{cls.__name__}": _gate(cls) for cls in GATES},
    **{f"{cls.__name__}": _experts(cls) for cls in EXPERTS},
    "DirichletGate, learnt": learnt_dirichlet,
    "StickBreakingGate, learnt": learnt_sticks,
    "NeuralGate": neural_gate,
    "BayesianSoftmaxGate, features": gate_of_features,
    "NeuralExperts": neural_experts,
    "HeterogeneousExperts": heterogeneous,
    "HeterogeneousOutputs": heterogeneous,
    "MixtureOfExperts": mixture,
    "families": family,
    "Groups": groups,
    "RobbinsMonro": robbins_monro,
}
