"""Gating priors for mixtures of experts, as Pyro models with exact updates."""

from mixpyro.experts import GLMExperts, LinearExperts
from mixpyro.gates import DirichletGate, MarginalObjectDirichletGate, NeuralGate, ObjectDirichletGate, SoftmaxGate
from mixpyro.gates.autoguide import AutoGate
from mixpyro.gates.expected import expected_weights
from mixpyro.inference.result import FitResult, Run
from mixpyro.inference.selection import Criteria, as_table, compare, criteria
from mixpyro.inference.vbem import fit
from mixpyro.mixture import MixtureOfExperts

__all__ = [
    "AutoGate",
    "Criteria",
    "DirichletGate",
    "FitResult",
    "GLMExperts",
    "LinearExperts",
    "MarginalObjectDirichletGate",
    "MixtureOfExperts",
    "NeuralGate",
    "ObjectDirichletGate",
    "Run",
    "SoftmaxGate",
    "as_table",
    "compare",
    "criteria",
    "expected_weights",
    "fit",
]
