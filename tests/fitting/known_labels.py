"""Mixtures and rows of the tests of known components."""

from typing import Any

import torch
from torch import Tensor

from mixpyro import FitResult, GLMExperts, LinearExperts, MixtureOfExperts, SoftmaxGate, fit
from mixpyro.experts.families import Gaussian

A, B, PRECISION = 1.0, 0.7, 0.5


def linear(k: int, n_features: int = 1) -> LinearExperts:
    """Experts with τ ~ Gamma(1, 0.7) and w ~ Normal(0, 1 / (0.5 τ))."""
    return LinearExperts(k, n_features, coefficient_precision=PRECISION, noise_rate=B)


def half_known(n_rows: int, n_known: int) -> Tensor:
    """Return where the first rows are known [N]."""
    return torch.arange(n_rows) % n_rows < n_known


def maximum_likelihood(x: Tensor, y: Tensor, **options: Any) -> FitResult:
    """Fit two lines by maximum likelihood."""
    mixture = MixtureOfExperts(SoftmaxGate(2, 0), GLMExperts(2, 1, Gaussian()))
    return fit(mixture, x, y, gate_x=x[:, :0], tolerance=1e-11, n_restarts=3, progress=False, **options)
