"""Gating priors for mixtures of experts, as Pyro models with exact updates."""

from mixpyro.evidence import expected_weights
from mixpyro.experts import GLMExperts, LinearExperts
from mixpyro.gates import DirichletGate, MarginalObjectDirichletGate, NeuralGate, ObjectDirichletGate, SoftmaxGate
from mixpyro.gates.autoguide import AutoGate
from mixpyro.inference.conjugate_svi import ConjugateSVI
from mixpyro.inference.result import FitResult, Run
from mixpyro.inference.selection import Criteria, as_table, compare, criteria
from mixpyro.inference.step_sizes import RobbinsMonro
from mixpyro.inference.vbem import fit
from mixpyro.mixture import MixtureOfExperts

__all__ = [
    "AutoGate",
    "ConjugateSVI",
    "Criteria",
    "DirichletGate",
    "FitResult",
    "GLMExperts",
    "LinearExperts",
    "MarginalObjectDirichletGate",
    "MixtureOfExperts",
    "NeuralGate",
    "ObjectDirichletGate",
    "RobbinsMonro",
    "Run",
    "SoftmaxGate",
    "as_table",
    "compare",
    "criteria",
    "expected_weights",
    "fit",
]
