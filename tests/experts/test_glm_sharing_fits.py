"""Fits, intervals and names of generalised linear models that share coefficients."""

import csv
from pathlib import Path

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from mixpyro import (
    DirichletGate,
    MixtureOfExperts,
    SoftmaxGate,
    coefficients,
    criteria,
    fit,
    linear_response,
    observed_information,
)
from mixpyro.experts import (
    GaussianExperts,
    GLMExperts,
    HeterogeneousExperts,
    LinearExperts,
    SharedLinearExperts,
)
from mixpyro.experts.families import Binomial, Family, Gaussian, Poisson
from mixpyro.intervals.names import parameter_names
from mixpyro.intervals.responses.parts import posterior_parts, quantity_names


def mixture(family: Family, **options: object) -> MixtureOfExperts:
    """Two components with one slope, whose weights do not depend on x."""
    return MixtureOfExperts(SoftmaxGate(2, 0), GLMExperts(2, 1, family, shared=[0], **options))  # type: ignore[arg-type]


def counts() -> tuple[Tensor, Tensor]:
    """Counts with one slope and two intercepts."""
    x = torch.linspace(-1.0, 1.0, 80).double().unsqueeze(-1)
    intercept = torch.where(torch.arange(80) % 2 == 0, 0.0, 2.0).double().unsqueeze(-1)
    return x, torch.poisson((intercept + 0.5 * x).exp(), generator=torch.Generator().manual_seed(1))


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("prior_scale", [None, 3.0])
def test_a_fit_is_the_maximum_that_scipy_finds_and_its_errors_those_of_its_hessian(prior_scale: float | None) -> None:
    x, y = counts()
    result = fit(mixture(Poisson(), prior_scale=prior_scale), x, y, gate_x=x[:, :0], n_restarts=2, tolerance=1e-12)

    def log_likelihood(theta: Tensor) -> Tensor:
        weight, first, second, slope = theta
        log_weights = torch.stack([torch.zeros_like(weight), weight]).log_softmax(0)
        log_rates = torch.cat([first + slope * x, second + slope * x], 1)
        log_density = y * log_rates - log_rates.exp() - torch.lgamma(y + 1.0)
        found = (log_weights + log_density).logsumexp(-1).sum()
        if prior_scale is not None:
            found = found + torch.distributions.Normal(0.0, prior_scale).log_prob(theta[1:]).sum()
        return found

    start = torch.tensor([0.0, 0.0, 2.0, 0.5]).double()
    best = minimize(lambda t: -float(log_likelihood(torch.as_tensor(t))), start, options={"gtol": 1e-7}, tol=1e-13)
    assert result.bound == pytest.approx(-best.fun, abs=1e-7)
    table = coefficients(result, x, y, gate_x=x[:, :0], feature_names=["dose"])
    estimates = result.mixture.experts.coefficients[:, 0]
    assert float(estimates[0, 1]) == table["experts: all components, dose"].estimate == float(estimates[1, 1])
    gate = result.mixture.gate.coefficients.flatten()
    point = torch.cat([gate, estimates[:, 0], estimates[:1, 1]])
    hessian = -torch.autograd.functional.hessian(log_likelihood, point)
    expected = hessian.inverse().diagonal().sqrt()
    found = torch.tensor([row.standard_error for row in table.values()]).double()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    assert list(table)[1:] == [
        "experts: component 0, intercept",
        "experts: component 1, intercept",
        "experts: all components, dose",
    ]
    information = observed_information(result.mixture, x, y, gate_x=x[:, :0])
    torch.testing.assert_close(information, hessian, rtol=1e-6, atol=1e-6)
    assert criteria(result, x, y, gate_x=x[:, :0]).n_parameters == 4
    response = linear_response(result, x, y, gate_x=x[:, :0])
    torch.testing.assert_close(response.standard_deviations, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(("n_components", "expected"), [(2, -181.33082), (3, -159.36052), (4, -155.75390)])
def test_centres_with_one_effect_of_treatment_are_those_of_flexmix(n_components: int, expected: float) -> None:
    """flexmix with nrep = 20: cbind(Deaths, Total - Deaths) ~ 1 | Center, a Treatment effect in common."""
    path = Path(__file__).parents[1] / "data" / "betablocker.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    treated = [float(row["Treatment"] == "Treated") for row in rows]
    x = torch.tensor([treated, [float(row["Total"]) for row in rows]]).double().mT
    y, centres = torch.tensor([float(row["Deaths"]) for row in rows]).double(), [row["Center"] for row in rows]
    experts = GLMExperts(n_components, 1, Binomial(), exposure=True, shared=[0])
    result = fit(
        MixtureOfExperts(SoftmaxGate(n_components, 0), experts),
        x,
        y,
        gate_x=x[:, :0],
        groups=centres,
        n_restarts={2: 1, 3: 3, 4: 4}[n_components],
        progress=False,
    )
    assert result.bound == pytest.approx(expected, abs=2e-4)
    assert experts.n_parameters == n_components + 1
    if n_components == 3:
        assert experts.coefficients[:, 0, 1].tolist() == pytest.approx([-0.2582] * 3, abs=1e-3)


@pytest.mark.usefixtures("without_type_checks")
def test_what_members_of_a_larger_bank_share_has_names_of_its_own() -> None:
    """A name that stood for two numbers would hide one of them."""
    banks = [GLMExperts(2, 1, Gaussian(), shared=[0, "scale"], prior_scale=5.0) for _ in range(2)]
    mixture = MixtureOfExperts(SoftmaxGate(4, 0, prior_scale=2.0), HeterogeneousExperts(banks))
    names = parameter_names(mixture, ["dose"], [])
    assert "experts: components 0 and 1, dose" in names
    assert "experts: components 2 and 3, log scale" in names
    assert len(set(names)) == len(names)
    lines_of_one_noise = [LinearExperts(2, 1, noise_per_component=False) for _ in range(2)]
    tied = [GaussianExperts(2, 1, covariance="tied"), SharedLinearExperts(2, 1, shared=[0])]
    for members in (lines_of_one_noise, tied):
        bank = MixtureOfExperts(DirichletGate(4), HeterogeneousExperts(members))
        found = [name for part in posterior_parts(bank) for name in quantity_names(part.part, ["dose"])]
        assert len(set(found)) == len(found)
