"""Expectations of logistic functions of Normal variables, against adaptive quadrature and automatic derivatives."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from mixpyro.numerics.logistic_normal import SMALLEST, gauss_hermite, logistic_normal

MEANS = torch.tensor([-30.0, -4.0, -0.7, 0.0, 2.0, 6.0], dtype=torch.float64)
DEVIATIONS = [0.05, 0.29, 0.31, 0.59, 0.61, 1.0, 1.49, 1.51, 3.0, 10.0, 40.0]


@pytest.mark.parametrize("deviation", DEVIATIONS)
def test_expectations_are_those_of_adaptive_quadrature(deviation: float) -> None:
    """On both sides of every change of nodes."""
    found = logistic_normal(MEANS, torch.full_like(MEANS, deviation**2))
    for number, mean in enumerate(MEANS.tolist()):
        # A kink of wide variables is a point of the integrand where the intervals meet.
        points = [-mean / deviation] if abs(mean / deviation) < 12 else None

        def expected(function: object, mean: float = mean, points: list[float] | None = points) -> float:
            def integrand(t: float) -> float:
                return float(function(mean + deviation * t) * norm.pdf(t))  # type: ignore[operator]

            return float(quad(integrand, -12, 12, points=points, epsabs=1e-12, limit=400)[0])

        assert float(found.log_normaliser[number]) == pytest.approx(
            expected(lambda eta: np.logaddexp(0.0, eta)), abs=2e-8
        )
        sigmoid = expected(lambda eta: np.exp(-np.logaddexp(0.0, -eta)))
        assert float(found.probability[number]) == pytest.approx(sigmoid, abs=2e-8)
        slope = expected(lambda eta: np.exp(-np.logaddexp(0.0, -eta) - np.logaddexp(0.0, eta)))
        assert float(found.curvature[number]) == pytest.approx(slope, abs=2e-8)


@pytest.mark.parametrize("deviation", [1e-9, 9e-4, 1.1e-3, *DEVIATIONS])
def test_derivatives_are_those_of_the_value(deviation: float) -> None:
    mean, variance = MEANS.clone().requires_grad_(), torch.full_like(MEANS, deviation**2).requires_grad_()
    followed = logistic_normal(mean, variance)
    by_mean, by_variance = torch.autograd.grad(followed.log_normaliser.sum(), [mean, variance])
    with torch.no_grad():
        found = logistic_normal(mean, variance)
    torch.testing.assert_close(found, type(found)(*(part.detach() for part in followed)), rtol=0, atol=1e-12)
    torch.testing.assert_close(found.probability, by_mean, rtol=0, atol=1e-12)
    # A difference over a deviation of a thousandth has three digits less.
    torch.testing.assert_close(found.curvature, 2.0 * by_variance, rtol=0, atol=1e-12 if deviation > 0.01 else 1e-5)
    assert bool((found.curvature > 0.0).all())


def test_many_variables_are_taken_in_blocks() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(3, 20_000, generator=generator, dtype=torch.float64)
    variance = torch.rand(3, 20_000, generator=generator, dtype=torch.float64)
    variance[:, ::1000] = 100.0
    found = logistic_normal(mean, variance)
    rows = [0, 999, 1000, 15_000, 19_999]
    few = logistic_normal(mean[:, rows], variance[:, rows])
    for all_, some in zip(found, few, strict=True):
        assert all_.shape == mean.shape
        torch.testing.assert_close(all_[:, rows], some, rtol=0, atol=1e-12)


def test_no_variables_have_no_expectations() -> None:
    assert logistic_normal(torch.empty(0, 5).double(), torch.empty(0, 5).double()).probability.shape == (0, 5)


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
