"""Experts: banks of K densities of one family, one family a file."""

from mixpyro.experts.base import Experts
from mixpyro.experts.gaussian import GaussianExperts
from mixpyro.experts.glm import GLMExperts
from mixpyro.experts.linear import LinearExperts

__all__ = ["Experts", "GLMExperts", "GaussianExperts", "LinearExperts"]
