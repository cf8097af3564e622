"""Experts: banks of K densities of one family, one family a file, and banks of unlike ones side by side."""

from mixpyro.experts.base import Experts
from mixpyro.experts.gaussian import GaussianExperts
from mixpyro.experts.glm import GLMExperts
from mixpyro.experts.heterogeneous import HeterogeneousExperts
from mixpyro.experts.heterogeneous_outputs import HeterogeneousOutputs
from mixpyro.experts.linear import LinearExperts
from mixpyro.experts.neural import NeuralExperts
from mixpyro.experts.point_mass import PointMassExperts
from mixpyro.experts.relevance import RelevanceLinearExperts

__all__ = [
    "Experts",
    "GLMExperts",
    "GaussianExperts",
    "HeterogeneousExperts",
    "HeterogeneousOutputs",
    "LinearExperts",
    "NeuralExperts",
    "PointMassExperts",
    "RelevanceLinearExperts",
]
