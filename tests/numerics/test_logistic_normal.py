"""Expectations of a logistic function of a Normal variable, against adaptive quadrature and autograd."""

import math

import pytest
import torch
from scipy import integrate

from mixpyro.numerics.logistic_normal import SMALLEST, gauss_hermite, logistic_normal

MEANS, DEVIATIONS = (-6.0, -0.3, 0.0, 2.5), (0.05, 0.7, 2.0)


def adaptive(function: object, mean: float, deviation: float) -> float:
    """E f(η) by adaptive quadrature."""

    def integrand(z: float) -> float:
        density = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
        return density * function(mean + deviation * z)  # type: ignore[operator]

    return float(integrate.quad(integrand, -12.0, 12.0, epsabs=1e-12, limit=400)[0])


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("deviation", DEVIATIONS)
def test_expectations_are_those_of_adaptive_quadrature(mean: float, deviation: float) -> None:
    found = logistic_normal(torch.tensor([mean]).double(), torch.tensor([deviation**2]).double())

    def sigmoid(eta: float) -> float:
        return 1.0 / (1.0 + math.exp(-eta))

    assert float(found.log_normaliser) == pytest.approx(
        adaptive(lambda eta: max(eta, 0.0) + math.log1p(math.exp(-abs(eta))), mean, deviation), abs=1e-6
    )
    assert float(found.probability) == pytest.approx(adaptive(sigmoid, mean, deviation), abs=1e-6)
    curvature = adaptive(lambda eta: sigmoid(eta) * (1.0 - sigmoid(eta)), mean, deviation)
    assert float(found.curvature) == pytest.approx(curvature, abs=1e-5)


def test_derivatives_are_those_of_the_sum_itself() -> None:
    mean = torch.linspace(-8.0, 8.0, 33).double().requires_grad_()
    variance = torch.linspace(1e-7, 40.0, 33).double().requires_grad_()
    found = logistic_normal(mean, variance)
    by_mean, by_variance = torch.autograd.grad(found.log_normaliser.sum(), [mean, variance])
    torch.testing.assert_close(found.probability, by_mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.curvature, 2.0 * by_variance, rtol=1e-8, atol=1e-10)
    assert bool((found.curvature > 0).all())


def test_the_two_forms_of_the_curvature_meet() -> None:
    mean = torch.linspace(-4.0, 4.0, 9).double()
    below, above = (logistic_normal(mean, torch.full_like(mean, (SMALLEST * f) ** 2)) for f in (0.999, 1.001))
    torch.testing.assert_close(below.curvature, above.curvature, rtol=1e-7, atol=1e-9)
    none = logistic_normal(mean, torch.zeros_like(mean))
    torch.testing.assert_close(none.curvature, mean.sigmoid() * (1.0 - mean.sigmoid()))


def test_nodes_have_the_moments_of_a_standard_normal() -> None:
    nodes, weights = (torch.tensor(part, dtype=torch.float64) for part in gauss_hermite())
    for power, moment in ((0, 1.0), (1, 0.0), (2, 1.0), (4, 3.0), (6, 15.0)):
        assert float((weights * nodes**power).sum()) == pytest.approx(moment, abs=1e-10)
