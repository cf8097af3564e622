"""Gating priors for mixtures of experts, as Pyro models with exact updates."""

from mixpyro.experts import GLMExperts, LinearExperts, RelevanceLinearExperts
from mixpyro.gates import DirichletGate, MarginalObjectDirichletGate, NeuralGate, ObjectDirichletGate, SoftmaxGate
from mixpyro.inference.coefficients import Coefficient, coefficients, observed_information
from mixpyro.inference.result import FitResult, Run
from mixpyro.inference.selection import Criteria, as_table, compare, criteria
from mixpyro.inference.vbem import fit
from mixpyro.mixture import MixtureOfExperts

__all__ = [
    "Coefficient",
    "Criteria",
    "DirichletGate",
    "FitResult",
    "GLMExperts",
    "LinearExperts",
    "MarginalObjectDirichletGate",
    "MixtureOfExperts",
    "NeuralGate",
    "ObjectDirichletGate",
    "RelevanceLinearExperts",
    "Run",
    "SoftmaxGate",
    "as_table",
    "coefficients",
    "compare",
    "criteria",
    "fit",
    "observed_information",
]
