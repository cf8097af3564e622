"""Gaussian experts of outcomes that are known by their limits."""

import math

import numpy as np
import pytest
import torch
from pyro.infer import TraceEnum_ELBO
from scipy import optimize, stats
from torch import Tensor

from mixpyro import (
    DirichletGate,
    GLMExperts,
    HeterogeneousExperts,
    HeterogeneousOutputs,
    LinearExperts,
    MixtureOfExperts,
    SoftmaxGate,
    coefficients,
    fit,
)
from mixpyro.experts.families import CensoredGaussian, Gaussian
from mixpyro.fitting.starts import k_means, random_subsets
from tests.experts.contract import N_FEATURES, EstimatedExpertsContract, K, by_gradient
from tests.problems import inputs, responsibilities

LOW, HIGH = -1.0, 2.5


class TestCensoredGaussian(EstimatedExpertsContract):
    """The contract, with outcomes that are known, above, below and between limits."""

    n_outputs = 2

    def make(self, n_components: int = K) -> GLMExperts:
        return GLMExperts(n_components, N_FEATURES, CensoredGaussian())

    def data(self, n_objects: int = 30) -> tuple[Tensor, Tensor, Tensor]:
        x = inputs(n_objects)
        return x, censored(line(x)), responsibilities(n_objects, K)

    def bad_data(self, experts: GLMExperts, x: Tensor, y: Tensor) -> list[tuple[tuple[Tensor, Tensor], str]]:  # type: ignore[override]
        """Infinite limits are refused on the wrong side alone."""
        message = "`y` must have a lower limit, then an upper one that is not below it.*got inf and inf in row 0"
        return [
            (rows, message if "`y` must be finite" in said else said) for rows, said in super().bad_data(experts, x, y)
        ] + [((x, y.flip(1)), "must have a lower limit"), ((x, y * torch.nan), "`y` must not be NaN")]


def line(x: Tensor) -> Tensor:
    """Outcomes [N] of a line in x [N, D]."""
    return 1.0 + 2.0 * x[:, 0] + 0.7 * torch.randn(len(x)).double()


def censored(outcome: Tensor) -> Tensor:
    """Limits [N, 2]: every fifth to the next whole numbers, others below and above two limits."""
    low, high = outcome.clone(), outcome.clone()
    between = torch.arange(len(outcome)) % 5 == 0
    low[between], high[between] = outcome[between].floor(), outcome[between].floor() + 1.0
    above, below = ~between & (outcome > HIGH), ~between & (outcome < LOW)
    low[above], high[above] = HIGH, math.inf
    low[below], high[below] = -math.inf, LOW
    return torch.stack([low, high], dim=1)


def minus_log_likelihood(theta: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """That of (intercept, slope, log σ), by scipy."""
    location, scale = theta[0] + theta[1] * x[:, 0], np.exp(theta[2])
    known = y[:, 0] == y[:, 1]
    density = stats.norm.logpdf(np.where(known, y[:, 0], 0.0), location, scale)
    share = stats.norm.cdf(y[:, 1], location, scale) - stats.norm.cdf(y[:, 0], location, scale)
    return -float(np.where(known, density, np.log(np.where(known, 1.0, share))).sum())


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("unit", [1.0, 1e5])
def test_one_component_is_at_scipys_maximum_with_its_standard_errors(unit: float) -> None:
    x = inputs(200, 1)
    y = censored(line(x))
    mixture = MixtureOfExperts(SoftmaxGate(1, 0), GLMExperts(1, 1, CensoredGaussian()))
    result = fit(mixture, x, unit * y, gate_x=x[:, :0], tolerance=1e-12, progress=False)
    rows = x.numpy(), y.numpy()
    start = np.array([1.0, 2.0, -0.3])
    with np.errstate(divide="ignore"):
        found = optimize.minimize(minus_log_likelihood, start, rows, method="BFGS", options={"gtol": 1e-6})
    n_known = int((y[:, 0] == y[:, 1]).sum())
    assert 50 < n_known < 150
    assert result.bound + n_known * np.log(unit) == pytest.approx(-found.fun, abs=1e-6)
    table = coefficients(result, x, unit * y, gate_x=x[:, :0]).values()
    estimates = np.array([row.estimate for row in table]) / [unit, unit, 1.0] - [0.0, 0.0, np.log(unit)]
    np.testing.assert_allclose(estimates, found.x, atol=1e-4)
    steps, signs = 1e-3 * np.eye(3), [(a, b) for a in (-1.0, 1.0) for b in (-1.0, 1.0)]
    hessian = [
        [sum(a * b * minus_log_likelihood(found.x + a * e + b * f, *rows) for a, b in signs) / 4e-6 for e in steps]
        for f in steps
    ]
    errors = np.array([row.standard_error for row in table]) / [unit, unit, 1.0]
    np.testing.assert_allclose(errors, np.sqrt(np.diag(np.linalg.inv(hessian))), rtol=1e-3)


def test_outcomes_that_are_known_are_the_gaussian_family() -> None:
    x, r = inputs(40), responsibilities(40, 2)
    y = line(x).unsqueeze(-1)
    one, other = GLMExperts(2, 2, CensoredGaussian(), prior_scale=2.0), GLMExperts(2, 2, Gaussian(), prior_scale=2.0)
    one.maximise(x, y.expand(-1, 2), r)
    other.maximise(x, y, r)
    torch.testing.assert_close(one.coefficients, other.coefficients, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(one.scale, other.scale, rtol=1e-6, atol=0)
    expected = other.expected_log_likelihood(x, y)
    torch.testing.assert_close(one.expected_log_likelihood(x, y.expand(-1, 2)), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(one.predict(x), other.predict(x).expand(-1, -1, 2), rtol=1e-6, atol=1e-7)


def test_outcomes_without_limits_say_nothing() -> None:
    x = inputs(40)
    y = censored(line(x))
    unknown = torch.tensor([[-math.inf, math.inf]]).double().expand(10, 2)
    one, other = GLMExperts(1, 2, CensoredGaussian()), GLMExperts(1, 2, CensoredGaussian())
    one.maximise(x, y, torch.ones(40, 1).double())
    other.maximise(torch.cat([x, inputs(10)]), torch.cat([y, unknown]), torch.ones(50, 1).double())
    torch.testing.assert_close(one.coefficients, other.coefficients, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("without_type_checks")
def test_two_lines_are_found_where_a_third_of_the_rows_are_censored() -> None:
    """Taken as known, the limits would flatten the steeper line."""
    x = inputs(160, 1)
    steep = torch.arange(160) % 2 == 0
    outcome = torch.where(steep, 1.0 + 2.0 * x[:, 0], -1.0 - x[:, 0]) + 0.3 * torch.randn(160).double()
    rows = x, torch.stack([outcome.clamp_max(1.0), torch.where(outcome > 1.0, math.inf, outcome)], 1)
    mixture = MixtureOfExperts(SoftmaxGate(2, 0), GLMExperts(2, 1, CensoredGaussian()))
    result = fit(mixture, *rows, gate_x=rows[0][:, :0], n_restarts=2, n_candidates=1, progress=False)
    found = torch.tensor(sorted(mixture.experts.coefficients[:, 0].tolist()))
    assert found.allclose(torch.tensor([[-1.0, -1.0], [1.0, 2.0]]), atol=0.15)
    elbo = -TraceEnum_ELBO(max_plate_nesting=1).loss(mixture.model, mixture.guide, *rows, gate_x=rows[0][:, :0])
    assert elbo == pytest.approx(mixture.bound(*rows, gate_x=rows[0][:, :0]).item(), abs=1e-8)
    assert result.bound == pytest.approx(mixture.log_prob(*rows, gate_x=rows[0][:, :0]).sum().item(), abs=1e-8)
    draws = mixture.predictive(rows[0], gate_x=rows[0][:, :0]).sample(torch.Size([200]))
    assert torch.equal(draws[..., 0], draws[..., 1])
    levels = torch.tensor([0.1, 0.9]).double()
    quantiles = mixture.quantile(rows[0], levels, gate_x=rows[0][:, :0])
    shares = (draws.unsqueeze(0) <= quantiles.unsqueeze(1)).double().mean((1, 2, 3))
    torch.testing.assert_close(shares, levels, rtol=0, atol=0.02)


@pytest.mark.usefixtures("without_type_checks")
def test_limits_go_with_other_outcomes_and_other_components() -> None:
    x = inputs(60, 1)
    y, other = censored(line(x)), x + 0.1 * torch.randn(60, 1).double()
    both = HeterogeneousOutputs([GLMExperts(2, 1, CensoredGaussian()), LinearExperts(2, 1)])
    alone = HeterogeneousExperts([GLMExperts(1, 1, CensoredGaussian()), GLMExperts(1, 0, CensoredGaussian())])
    for experts, rows in ((both, torch.cat([y, other], 1)), (alone, y)):
        mixture = MixtureOfExperts(DirichletGate(2), experts)
        for start in (k_means, random_subsets):
            r = start(mixture, x, rows, torch.Generator().manual_seed(0))
            torch.testing.assert_close(r.sum(-1), torch.ones(60).double())
        experts.maximise(x, rows, responsibilities(60, 2), by_gradient=by_gradient)
        assert math.isfinite(mixture.bound(x, rows).item())
    with pytest.raises(ValueError, match="`y` must be finite"):
        both.check_data(x, torch.cat([y, other + math.inf], 1))
