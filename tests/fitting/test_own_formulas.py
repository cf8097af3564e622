"""Fits of subclasses, frozen parameters and missing outputs, which formulas of many runs must not skip."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixpyro import GLMExperts, HeterogeneousOutputs, LinearExperts, MixtureOfExperts, SoftmaxGate, fit
from mixpyro.experts.families import Family, Gaussian, Poisson
from mixpyro.fitted_part import State
from mixpyro.shapes import ObjectIndices
from tests.problems import inputs

pytestmark = [pytest.mark.filterwarnings("ignore::RuntimeWarning"), pytest.mark.usefixtures("without_type_checks")]


class Clamped(GLMExperts):
    """Predictors that stay between −1 and 1."""

    def predictors(self, x: Tensor) -> Tensor:
        """Return them."""
        return super().predictors(x).clamp(-1.0, 1.0)


class Lasso(GLMExperts):
    """A Laplace prior on the coefficients."""

    def kl_divergence(self) -> Tensor:
        """Return minus its log density, up to a constant."""
        return super().kl_divergence() + self.coefficients_estimate.abs().sum()


class Shifted(GLMExperts):
    """One parameter more for every component."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.shift = nn.Parameter(torch.zeros(self.n_components))

    def predictors(self, x: Tensor) -> Tensor:
        """Return them with the shift."""
        return super().predictors(x) + self.shift.unsqueeze(-1)


class Mixed(SoftmaxGate):
    """Weights of which none is below a tenth of even ones."""

    def expected_log_weights(self, x: Tensor, *, objects: ObjectIndices | None = None) -> Tensor:
        """Return their logarithms."""
        weights = super().expected_log_weights(x, objects=objects).exp()
        return (0.9 * weights + 0.1 / self.n_components).log()


class Priced(SoftmaxGate):
    """A prior of its own."""

    def kl_divergence(self) -> Tensor:
        """Return minus its log density, up to a constant."""
        return 3.0 + super().kl_divergence()


class Quadratic(SoftmaxGate):
    """One parameter more."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.bend = nn.Parameter(torch.tensor(0.3))

    def logits(self, x: Tensor) -> Tensor:
        """Return logits with a square of x in the last one."""
        bent = torch.cat([x.new_zeros(len(x), self.n_components - 1), self.bend * x[:, :1].square()], dim=1)
        return super().logits(x) + bent


class OwnGaussian(Gaussian):
    """Scales in a closed form, which need not be what a step assumes of a Gaussian's."""

    has_moments = False


def rows(family: Family) -> tuple[Tensor, Tensor]:
    """Draw x [60, 1] and y [60, 1] of two components."""
    torch.manual_seed(0)
    x = inputs(60, 1)
    eta = torch.where(torch.arange(60) % 2 == 0, 1.0 + x[:, 0], -0.5 - x[:, 0])
    y = eta + 0.3 * torch.randn(60) if isinstance(family, Gaussian) else torch.poisson(eta.clamp(max=3.0).exp())
    return x, y.unsqueeze(1)


@pytest.mark.parametrize("experts", [Clamped, Lasso, Shifted])
def test_fit_reads_formulas_of_subclasses_of_experts(experts: type[GLMExperts]) -> None:
    x, y = rows(Poisson())
    mixture = MixtureOfExperts(SoftmaxGate(2, 1), experts(2, 1, Poisson()))
    result = fit(mixture, x, y, n_restarts=2, max_iterations=5, progress=False)
    assert result.bound == pytest.approx(float(result.mixture.bound(x, y)), abs=1e-9)


@pytest.mark.parametrize("gate", [Mixed, Priced, Quadratic])
def test_fit_reads_formulas_of_subclasses_of_gates(gate: type[SoftmaxGate]) -> None:
    x, y = rows(Poisson())
    mixture = MixtureOfExperts(gate(2, 1), GLMExperts(2, 1, Poisson()))
    result = fit(mixture, x, y, n_restarts=2, max_iterations=5, progress=False)
    assert result.bound == pytest.approx(float(result.mixture.bound(x, y)), abs=1e-9)


def test_fit_estimates_scales_by_the_closed_form_of_a_users_family() -> None:
    x, y = rows(Gaussian())
    bounds = [
        fit(MixtureOfExperts(SoftmaxGate(2, 1), GLMExperts(2, 1, family)), x, y, n_restarts=2, progress=False).bound
        for family in (Gaussian(), OwnGaussian())
    ]
    assert bounds[0] == pytest.approx(bounds[1], abs=1e-4)


def test_several_runs_of_frozen_coefficients_find_the_noise() -> None:
    x, y = rows(Gaussian())
    mixture = MixtureOfExperts(SoftmaxGate(2, 1), GLMExperts(2, 1, Gaussian()))
    frozen = torch.tensor([[[1.0, 1.0]], [[-0.5, -1.0]]])
    with torch.no_grad():
        mixture.experts.coefficients_estimate.copy_(frozen)
    mixture.experts.coefficients_estimate.requires_grad_(False)
    result = fit(mixture, x, y, n_restarts=3, tolerance=1e-12, progress=False)
    fitted, r = result.mixture, result.responsibilities
    noise = ((r * (y - torch.cat([1.0 + x, -0.5 - x], dim=1)).square()).sum(0) / r.sum(0)).sqrt()
    assert torch.equal(fitted.experts.coefficients, frozen)
    torch.testing.assert_close(fitted.experts.scale, noise, rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("family", [Poisson(), Gaussian()], ids=["poisson", "gaussian"])
def test_runs_of_generalised_linear_outputs_start_without_the_missing(family: Family) -> None:
    x, y = rows(family)
    other = 0.5 * x + y + 0.1 * torch.randn(60, 1)
    y, other = y.clone(), other.clone()
    y[::7], other[3::11] = torch.nan, torch.nan
    members = [GLMExperts(2, 1, family), LinearExperts(2, n_features=1)]
    result = fit(
        MixtureOfExperts(SoftmaxGate(2, 1), HeterogeneousOutputs(members)),
        x,
        torch.cat([y, other], dim=1),
        missing="ignore",
        n_restarts=3,
        max_iterations=5,
        progress=False,
    )
    assert all(run.bound > -400.0 for run in result.runs)


def test_no_part_of_a_step_that_overflows_is_no_step() -> None:
    gate = SoftmaxGate(2, 1)
    before, after = torch.ones(1, 1, 2), torch.full((1, 1, 2), torch.inf)
    (found,) = gate.part_way(State((), (before,)), State((), (after,)), torch.zeros(1)).estimates
    assert torch.equal(found, before)
