"""Merges and deletions while the bound rises."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from mixpyro import DirichletGate, FitResult, GaussianExperts, GLMExperts, LinearExperts, MixtureOfExperts, fit
from mixpyro.experts.families import Poisson

pytestmark = [pytest.mark.usefixtures("without_type_checks"), pytest.mark.filterwarnings("ignore::RuntimeWarning")]


class CountingGate(DirichletGate):
    """A Dirichlet gate that has a fit find how many components there are."""

    finds_components = True


Make = Callable[[type[DirichletGate], int], MixtureOfExperts]
# Numbers of rows a component may have and count as empty.
FEW = 1.0
MIXTURES: dict[str, Make] = {
    "clouds": lambda gate, k: MixtureOfExperts(gate(k, concentration=0.1), GaussianExperts(k, 2)),
    "spheres": lambda gate, k: MixtureOfExperts(
        gate(k, concentration=0.1), GaussianExperts(k, 2, covariance="spherical")
    ),
    "estimated": lambda gate, k: MixtureOfExperts(
        gate(k, concentration=0.1), GLMExperts(k, 0, Poisson(), prior_scale=1.0)
    ),
}
N_CLOUDS = 4


def rows(name: str) -> tuple[Tensor, Tensor]:
    """Return clouds, or counts from four Poisson distributions for experts whose parameters are estimated."""
    x, y = clouds()
    rates = torch.tensor([1.0, 8.0, 30.0, 90.0]).double()[torch.arange(160) % N_CLOUDS].unsqueeze(-1)
    return (x, y) if name != "estimated" else (x, torch.poisson(rates, generator=Generator().manual_seed(0)))


def clouds() -> tuple[Tensor, Tensor]:
    """Draw four clouds in the plane; return no inputs [N, 0], and y [N, 2]."""
    generator = Generator().manual_seed(0)
    means = 3.0 * torch.randn(N_CLOUDS, 2, generator=generator).double()
    z = torch.arange(160) % N_CLOUDS
    y = means[z] + 0.7 * torch.randn(160, 2, generator=generator).double()
    return y[:, :0], y


def fitted(name: str, gate: type[DirichletGate], k: int = 10, **options: object) -> FitResult:
    """Fit more components than there are clouds, from few starts."""
    return fit(MIXTURES[name](gate, k), *rows(name), n_restarts=2, progress=False, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MIXTURES)
def test_moves_raise_the_bound_and_leave_the_components_that_there_are(name: str) -> None:
    plain, found = fitted(name, DirichletGate), fitted(name, CountingGate)
    assert found.bound > plain.bound - 1e-6
    for run, before in zip(found.runs, plain.runs, strict=True):
        assert run.bound > before.bound - found.difference_at_one_optimum
        assert (torch.tensor(run.trace).diff() > -1e-8).all()
    assert found.converged
    assert int((found.responsibilities.sum(0) > FEW).sum()) == N_CLOUDS
    assert float(found.mixture.bound(*rows(name))) == pytest.approx(found.bound, abs=1e-8)


@pytest.mark.parametrize("name", ["clouds", "estimated"])
def test_a_known_component_keeps_its_rows(name: str) -> None:
    observed = torch.arange(160) % N_CLOUDS
    observed[observed > 1] = -1
    found = fitted(name, CountingGate, observed=observed.clamp_min(0), mask=observed >= 0)
    assert (found.responsibilities.argmax(-1)[observed >= 0] == observed[observed >= 0]).all()
    assert int((found.responsibilities.sum(0) > FEW).sum()) == N_CLOUDS


def test_rows_once_are_rows_of_half_weight_twice() -> None:
    x, y = clouds()
    # Two components in each cloud: merges find the optimum. Of more weight a split, which draws rows, would be better.
    start = torch.eye(8).double()[torch.arange(160) % 8]
    once = fit(
        MIXTURES["clouds"](CountingGate, 8),
        x,
        y,
        weights=torch.full((160,), 1.0).double(),
        initial_responsibilities=start,
        progress=False,
    )
    twice = fit(
        MIXTURES["clouds"](CountingGate, 8),
        x.repeat(2, 1),
        y.repeat(2, 1),
        weights=torch.full((320,), 0.5).double(),
        initial_responsibilities=start.repeat(2, 1),
        progress=False,
    )
    assert once.bound == pytest.approx(twice.bound, abs=1e-3)


def test_a_finished_fit_that_is_called_again_is_the_same(tmp_path: Path) -> None:
    first = fitted("clouds", CountingGate, checkpoint=tmp_path / "file")
    again = fitted("clouds", CountingGate, checkpoint=tmp_path / "file")
    assert first.runs == again.runs
    torch.testing.assert_close(first.responsibilities, again.responsibilities, rtol=0, atol=1e-12)


def test_linear_experts_in_float32() -> None:
    generator = Generator().manual_seed(3)
    x = torch.randn(200, 1, generator=generator)
    z = torch.arange(200) % 2
    y = torch.where(z == 0, 3.0 * x[:, 0], -2.0 * x[:, 0] + 4.0) + 0.2 * torch.randn(200, generator=generator)
    gate = CountingGate(6, concentration=0.1)
    result = fit(MixtureOfExperts(gate, LinearExperts(6, 1)), x, y, n_restarts=2, progress=False)
    assert int((result.responsibilities.sum(0) > FEW).sum()) == 2
