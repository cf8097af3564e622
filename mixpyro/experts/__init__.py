"""Experts: banks of K densities of one family, one family a file."""

from mixpyro.experts.base import Experts
from mixpyro.experts.glm import GLMExperts
from mixpyro.experts.linear import LinearExperts
from mixpyro.experts.relevance import RelevanceLinearExperts

__all__ = ["Experts", "GLMExperts", "LinearExperts", "RelevanceLinearExperts"]
