"""Fits of lines and densities, for the tests of linear response."""

from typing import Any

import torch
from torch import Generator, Tensor, nn

from mixpyro import DirichletGate, FitResult, LinearExperts, MixtureOfExperts, fit
from mixpyro.experts.base import Experts
from mixpyro.gates import Gate
from tests.benchmarks.simulated import SETTINGS, simulate


def rows(setting: int, n_outputs: int = 1, n_objects: int = 200) -> tuple[Tensor, Tensor, Tensor]:
    """Draw x [N, 1], y [N, P] and a start [N, 2] at the true components."""
    x, y, z, _ = simulate(SETTINGS[setting], 3, n_objects)
    if n_outputs == 2:
        noise = torch.randn(y.shape, generator=Generator().manual_seed(1), dtype=torch.float64)
        y = torch.cat([y, 0.5 * y + noise], dim=1)
    return x, y, nn.functional.one_hot(z, 2).double() + 0.05


def fitted(gate: Gate, experts: Experts, x: Tensor, y: Tensor, start: Tensor, **options: Any) -> FitResult:
    """Fit from a start."""
    mixture = MixtureOfExperts(gate, experts)
    return fit(mixture, x, y, initial_responsibilities=start.to(x.dtype), progress=False, **options)


def lines_fit(setting: int = 1) -> tuple[FitResult, Tensor, Tensor]:
    """Fit two lines."""
    x, y, start = rows(setting)
    return fitted(DirichletGate(2), LinearExperts(2, 1), x, y, start), x, y


def relative(found: Tensor, expected: Tensor, deviations: Tensor) -> float:
    """Return the largest difference of two covariances, in correlations."""
    return float(((found - expected) / torch.outer(deviations, deviations)).abs().max())
