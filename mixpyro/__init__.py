"""Gating priors for mixtures of experts, as Pyro models with exact updates."""

from mixpyro.experts import LinearExperts
from mixpyro.gates import DirichletGate, MarginalObjectDirichletGate, NeuralGate, ObjectDirichletGate
from mixpyro.inference.result import FitResult, Run
from mixpyro.inference.vbem import fit
from mixpyro.mixture import MixtureOfExperts

__all__ = [
    "DirichletGate",
    "FitResult",
    "LinearExperts",
    "MarginalObjectDirichletGate",
    "MixtureOfExperts",
    "NeuralGate",
    "ObjectDirichletGate",
    "Run",
    "fit",
]
