"""Fits of generalised linear models whose starts do not depend on the units of exposures and outputs."""

import pytest
import torch
from torch import Generator, Tensor

from mixpyro import GLMExperts, MixtureOfExperts, SoftmaxGate, fit
from mixpyro.experts.families import CensoredGaussian, Family, NegativeBinomial, Poisson, StudentT

N_ROWS = 60


def regressors(generator: Generator) -> tuple[Tensor, Tensor]:
    """Return x [N, 2], and predictors of two kinds of rows [N]."""
    x = torch.randn(N_ROWS, 2, generator=generator, dtype=torch.float64)
    kinds = torch.tensor([[-0.5, 0.8, -0.3], [1.5, -0.7, 0.4]]).double()[torch.arange(N_ROWS) % 2]
    return x, kinds[:, 0] + (x * kinds[:, 1:]).sum(-1)


def traces(family: Family, x: Tensor, y: Tensor, *, exposure: bool, shared: list[int | str]) -> list[float]:
    """Return the bounds of all iterations of two runs, in a row."""
    experts = GLMExperts(2, 2, family, exposure=exposure, shared=shared)
    mixture = MixtureOfExperts(SoftmaxGate(2, 0), experts)
    result = fit(mixture, x, y, gate_x=x[:, :0], n_restarts=2, n_candidates=1, max_iterations=5, progress=False)
    return [bound for run in result.runs for bound in run.trace]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("shared", [[], [0], ["intercept"]], ids=str)
@pytest.mark.parametrize("family", [Poisson(), NegativeBinomial()], ids=lambda one: type(one).__name__)
def test_runs_are_the_same_in_all_units_of_an_exposure(family: Family, shared: list[int | str]) -> None:
    generator = Generator().manual_seed(1)
    x, eta = regressors(generator)
    exposure = torch.randn(N_ROWS, generator=generator, dtype=torch.float64).exp()
    y = torch.poisson(exposure * (1.0 + eta).exp(), generator=generator).unsqueeze(-1)
    found = [
        traces(family, torch.cat([x, unit * exposure.unsqueeze(-1)], -1), y, exposure=True, shared=shared)
        for unit in (1.0, 1e6, 1e-6)
    ]
    assert found[1] == pytest.approx(found[0], abs=1e-5) and found[2] == pytest.approx(found[0], abs=1e-5)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("shared", [[0], ["intercept"]], ids=str)
@pytest.mark.parametrize("family", [StudentT(), CensoredGaussian()], ids=lambda one: type(one).__name__)
def test_runs_are_the_same_wherever_the_outputs_of_components_with_a_common_line_are(
    family: Family, shared: list[int | str]
) -> None:
    generator = Generator().manual_seed(1)
    x, eta = regressors(generator)
    y = 2.0 * eta.unsqueeze(-1) + torch.randn(N_ROWS, 1, generator=generator, dtype=torch.float64)
    if family.n_outputs == 2:
        y = torch.cat([torch.where(y < -2.0, -torch.inf, y), y.clamp_min(-2.0)], -1)
    near, far = (traces(family, x, where + y, exposure=False, shared=shared) for where in (0.0, 1e6))
    assert far == pytest.approx(near, abs=1e-4)
