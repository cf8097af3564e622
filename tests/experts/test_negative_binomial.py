"""Negative binomial experts."""

import numpy as np
import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from scipy import optimize, stats
from torch import Tensor

from mixpyro import GLMExperts, MixtureOfExperts, NeuralExperts, SoftmaxGate, coefficients, fit
from mixpyro.experts.families import NegativeBinomial, Poisson
from tests.experts.contract import N_FEATURES, EstimatedExpertsContract, K
from tests.problems import inputs, responsibilities

ALPHA = 0.6


class TestNegativeBinomial(EstimatedExpertsContract):
    """The contract, with an exposure."""

    def make(self, n_components: int = K) -> GLMExperts:
        return GLMExperts(n_components, N_FEATURES, NegativeBinomial(), exposure=True)

    def data(self, n_objects: int = 30) -> tuple[Tensor, Tensor, Tensor]:
        x, y = overdispersed(n_objects, mean=3.0)
        exposure = 1.0 + torch.arange(n_objects).double().unsqueeze(-1) % 4
        return torch.cat([x, exposure], 1), (exposure * y).round(), responsibilities(n_objects, K)


def overdispersed(n_objects: int, *, mean: float = 2.0, alpha: float = ALPHA) -> tuple[Tensor, Tensor]:
    """x [N, 2] and counts y [N, 1] whose log mean is linear in x."""
    x = inputs(n_objects)
    rate = mean * (x @ torch.tensor([[0.5], [-0.3]]).double()).exp()
    size = torch.full_like(rate, 1.0 / alpha)
    return x, torch.poisson(rate * torch.distributions.Gamma(size, size).sample())


def minus_log_likelihood(theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """That of (intercept, slopes, log α), by scipy."""
    rate, size = np.exp(theta[0] + x @ theta[1:-1]), np.exp(-theta[-1])
    return -float(stats.nbinom(size, size / (size + rate)).logpmf(y[:, 0]).sum())


@pytest.mark.usefixtures("without_type_checks")
def test_one_component_is_at_scipys_maximum_with_its_standard_errors() -> None:
    x, y = overdispersed(300)
    mixture = MixtureOfExperts(SoftmaxGate(1, 0), GLMExperts(1, 2, NegativeBinomial()))
    result = fit(mixture, x, y, gate_x=x[:, :0], tolerance=1e-12, progress=False)
    rows = x.numpy(), y.numpy()
    found = optimize.minimize(minus_log_likelihood, np.zeros(4), rows, method="BFGS", options={"gtol": 1e-6})
    assert result.bound == pytest.approx(-found.fun, abs=1e-7)
    table = coefficients(result, x, y, gate_x=x[:, :0])
    assert list(table)[-1] == "experts: component 0, log dispersion"
    np.testing.assert_allclose([row.estimate for row in table.values()], found.x, atol=1e-4)
    steps = 1e-4 * np.eye(4)
    hessian = [
        [
            sum(
                one * other * minus_log_likelihood(found.x + one * a + other * b, *rows)
                for one in (-1.0, 1.0)
                for other in (-1.0, 1.0)
            )
            / 4e-8
            for a in steps
        ]
        for b in steps
    ]
    errors = np.sqrt(np.diag(np.linalg.inv(hessian)))
    np.testing.assert_allclose([row.standard_error for row in table.values()], errors, rtol=1e-3)


def test_a_dispersion_of_zero_is_the_poisson_model_and_is_said() -> None:
    """Counts with less spread than Poisson's: the fit ends at its limit."""
    x = inputs(60)
    y = (2.0 + 0.0 * x[:, :1]) + (torch.arange(60).unsqueeze(-1) % 2).double()
    bounds = []
    for family in (NegativeBinomial(), Poisson()):
        mixture = MixtureOfExperts(SoftmaxGate(1, 0), GLMExperts(1, 2, family))
        if isinstance(family, Poisson):
            bounds.append(fit(mixture, x, y, gate_x=x[:, :0], progress=False).bound)
            continue
        with pytest.warns(RuntimeWarning, match="component 0 has a dispersion of 0, the Poisson limit"):
            bounds.append(fit(mixture, x, y, gate_x=x[:, :0], progress=False).bound)
    assert bounds[0] == pytest.approx(bounds[1], abs=1e-5)
    assert all(torch.isfinite(parameter).all() for parameter in mixture.parameters())


@pytest.mark.usefixtures("without_type_checks")
def test_two_classes_are_found_and_pyros_elbo_is_the_bound() -> None:
    x = inputs(300, 1)
    one = (torch.arange(300) % 2 == 0).unsqueeze(-1)
    size = torch.full((300, 1), 2.0).double()
    rate = (
        torch.where(one, torch.exp(0.5 + x), torch.exp(4.0 - 0.5 * x))
        * torch.distributions.Gamma(2 * size, 2 * size).sample()
    )
    y = torch.poisson(rate)
    mixture = MixtureOfExperts(SoftmaxGate(2, 0), GLMExperts(2, 1, NegativeBinomial()))
    result = fit(mixture, x, y, gate_x=x[:, :0], n_restarts=2, progress=False)
    low, high = sorted(mixture.experts.coefficients[:, 0].tolist())
    assert torch.tensor(low).allclose(torch.tensor([0.5, 1.0]), atol=0.3)
    assert torch.tensor(high).allclose(torch.tensor([4.0, -0.5]), atol=0.2)
    elbo = -TraceEnum_ELBO(max_plate_nesting=1).loss(mixture.model, mixture.guide, x, y, gate_x=x[:, :0])
    assert elbo == pytest.approx(mixture.bound(x, y, gate_x=x[:, :0]).item(), abs=1e-8)
    assert result.mixture is mixture
    draws = mixture.predictive(x, gate_x=x[:, :0]).sample(torch.Size([500]))
    mean = mixture.predict(x, gate_x=x[:, :0])
    assert ((draws.mean(0) - mean).abs() < 5.0 * draws.std(0) / 500**0.5).all()
    levels = torch.tensor([0.1, 0.5, 0.9]).double()
    quantiles = mixture.quantile(x, levels, gate_x=x[:, :0])
    shares = (draws.unsqueeze(0) <= quantiles.unsqueeze(1)).double().mean((1, 2, 3))
    assert bool((shares >= levels - 0.02).all())
    assert mixture.experts.noises() is None


@pytest.mark.parametrize("unit", [1.0, 1e6])
def test_rows_in_float32_and_large_counts(unit: float) -> None:
    x, y = overdispersed(80, mean=5.0 * unit)
    r = torch.ones(80, 1)
    one, other = GLMExperts(1, 2, NegativeBinomial()), GLMExperts(1, 2, NegativeBinomial(), dtype=torch.float32)
    one.maximise(x, y, r.double())
    other.maximise(x.float(), y.float(), r)
    torch.testing.assert_close(other.scale.double(), one.scale, rtol=1e-4, atol=0)
    assert one.scale.item() == pytest.approx(ALPHA, rel=0.5)
    likelihood = other.expected_log_likelihood(x.float(), y.float())
    torch.testing.assert_close(likelihood.double(), one.expected_log_likelihood(x, y), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("bad_arguments")
def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="`y` must hold whole numbers from 0 on"):
        GLMExperts(1, 0, NegativeBinomial()).check_data(torch.zeros(2, 0).double(), torch.tensor([0.5, 1.0]).double())
    with pytest.raises(ValueError, match="`family` must be a Gaussian or one without scales for networks; got a Neg"):
        NeuralExperts(1, 2, torch.nn.Linear(2, 1), NegativeBinomial())
