"""Gaussian densities of every covariance structure."""

import math
from typing import ClassVar

import pytest
import torch
from pyro.distributions import MultivariateStudentT
from pyro.infer import MCMC, NUTS, Predictive, TraceEnum_ELBO
import pyro
from torch import Generator, Tensor

from mixpyro import DirichletGate, GaussianExperts, LinearExperts, MixtureOfExperts, fit
from tests.experts.contract import ConjugateExpertsContract, K
from tests.problems import responsibilities

STRUCTURES = ("full", "diagonal", "spherical")
PRIOR = {"mean": [0.5, -0.2, 0.1], "mean_precision": 0.3, "degrees_of_freedom": 3.5}
SCALE = torch.tensor([[0.5, 0.2, 0.0], [0.2, 0.8, -0.1], [0.0, -0.1, 0.4]], dtype=torch.float64)
SCALES = {"full": SCALE, "diagonal": [0.5, 0.8, 0.4], "spherical": 0.6}


def clusters(n_objects: int, *, n_outputs: int = 3, apart: float = 3.0, seed: int = 0) -> Tensor:
    """Three Gaussian clusters of different shapes, float64 [N, P]."""
    generator = Generator().manual_seed(seed)
    roots = torch.randn(3, n_outputs, n_outputs, generator=generator, dtype=torch.float64)
    centres = apart * torch.randn(3, n_outputs, generator=generator, dtype=torch.float64)
    noise = torch.randn(n_objects, n_outputs, generator=generator, dtype=torch.float64)
    z = torch.arange(n_objects) % 3
    return centres[z] + torch.einsum("npq,nq->np", roots[z], noise)


class TestGaussianExperts(ConjugateExpertsContract):
    """The contract, for a full covariance of three columns."""

    n_outputs = 3
    covariance: ClassVar[str] = "full"

    def make(self, n_components: int = K) -> GaussianExperts:
        return GaussianExperts(n_components, 3, covariance=self.covariance, scale=SCALES[self.covariance], **PRIOR)


class TestDiagonal(TestGaussianExperts):
    """The contract, for a diagonal covariance."""

    covariance = "diagonal"


class TestSpherical(TestGaussianExperts):
    """The contract, for a spherical covariance."""

    covariance = "spherical"
