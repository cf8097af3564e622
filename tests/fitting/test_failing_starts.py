"""Starts and candidates that fail beside others that do not."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from mixpyro import (
    DirichletGate,
    GLMExperts,
    LinearExperts,
    MixtureOfExperts,
    SoftmaxGate,
    fit,
)
from mixpyro.experts.families import StudentT
from mixpyro.fitting.starts import random_assignments
from tests.fitting.mixtures import MIXTURES, table

pytestmark = [
    pytest.mark.filterwarnings("ignore:the noise of component"),
    pytest.mark.usefixtures("without_type_checks"),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_start_that_fails_stops_no_other() -> None:
    data, asked = table(), itertools.count()

    def fragile(mixture: MixtureOfExperts, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        if next(asked) % 2:
            torch.linalg.cholesky(-torch.eye(2))
        return random_assignments(mixture, x, y, generator)

    options: dict[str, Any] = {"n_candidates": 1, "progress": False}
    result = fit(MIXTURES["linear"](), data.x, data.y, starts=[fragile], n_restarts=4, **options)
    assert [math.isfinite(run.bound) for run in result.runs] == [True, False, True, False]
    sound = fit(MIXTURES["linear"](), data.x, data.y, starts=[random_assignments], n_restarts=3, **options)
    assert result.runs[0].trace == pytest.approx(sound.runs[0].trace, abs=1e-8)


def test_candidates_that_fail_stop_no_other() -> None:
    data = table()

    def failing(mixture: MixtureOfExperts, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        return torch.linalg.cholesky(-torch.eye(2))

    starts = [random_assignments, failing, failing]
    result = fit(MIXTURES["linear"](), data.x, data.y, starts=starts, n_restarts=3, progress=False)
    assert all(math.isfinite(run.bound) for run in result.runs)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("dtype", "precision", "rounding"),
    [(torch.float64, 0.01, 1e-8), (torch.float64, 1e-4, 1e-3), (torch.float32, 0.01, 1.0)],
)
def test_a_column_that_is_there_twice_ends_a_fit_of_many_components_all_the_same(
    dtype: torch.dtype, precision: float, rounding: float
) -> None:
    """Λ is singular but for the prior, which is 10⁻¹³ or less of it: the sums' own rounding is all that may be seen."""
    first = 1e4 * torch.randn(600, 1, dtype=torch.float64)
    x = torch.cat([first, first], dim=1).to(dtype)
    z = torch.randint(6, (600, 1))
    y = (3.0 * (z - 2.5) * first / 1e4 + z + 0.3 * torch.randn(600, 1, dtype=torch.float64)).to(dtype)
    mixture = MixtureOfExperts(DirichletGate(6), LinearExperts(6, 2, coefficient_precision=precision))
    result = fit(mixture, x, y, n_restarts=2, n_candidates=1, max_iterations=400, progress=False)
    falls = [before - after for run in result.runs for before, after in itertools.pairwise(run.trace)]
    assert max(falls) <= rounding
    assert all(run.converged for run in result.runs)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_candidate_whose_noise_may_have_collapsed_goes_on_beside_others() -> None:
    generator = Generator().manual_seed(1)
    x, y = (torch.randn(24, 1, generator=generator, dtype=torch.float64) for _ in range(2))
    mixture = MixtureOfExperts(SoftmaxGate(3, 0), GLMExperts(3, 1, StudentT()))
    result = fit(mixture, x, y, gate_x=x[:, :0], n_restarts=6, max_iterations=60, progress=False)
    assert len(result.runs) == 6 and math.isfinite(result.bound)
