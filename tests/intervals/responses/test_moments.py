"""Missing information from shared moments against that from products of features."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn

from mixpyro import DirichletGate, FitResult, GaussianExperts, LinearExperts, MixtureOfExperts, fit, linear_response
from mixpyro.experts.base import Experts
from mixpyro.fitting.table import checked_table
from mixpyro.intervals.responses import closed_form
from mixpyro.intervals.responses.autograd import ByAutograd
from mixpyro.intervals.responses.closed_form import ClosedForm
from mixpyro.intervals.responses.information import add_missing, symmetric
from mixpyro.intervals.responses.moments import Frame, SharedMoments
from mixpyro.intervals.responses.passes import Passes, joined
from tests.intervals.line_fits import relative

pytestmark = [pytest.mark.usefixtures("without_type_checks"), pytest.mark.filterwarnings("ignore::RuntimeWarning")]
K = 3
BANKS: dict[str, Callable[[], Experts]] = {
    "lines": lambda: LinearExperts(K, 2),
    "one noise": lambda: LinearExperts(K, 2, noise_per_component=False),
    "no intercept": lambda: LinearExperts(K, 2, intercept=False),
    "two outputs": lambda: LinearExperts(K, 2, 2),
    "two outputs, one noise each": lambda: LinearExperts(K, 2, 2, noise_per_output=False),
    "two outputs, a noise for each": lambda: LinearExperts(K, 2, 2, noise_per_component=False),
    "density": lambda: GaussianExperts(K, 1),
    "full": lambda: GaussianExperts(K, 2),
    "diagonal": lambda: GaussianExperts(K, 2, covariance="diagonal"),
    "spherical": lambda: GaussianExperts(K, 2, covariance="spherical"),
    "tied": lambda: GaussianExperts(K, 2, covariance="tied"),
}


def planes(n_outputs: int, noise: float = 0.5, n_rows: int = 300) -> tuple[Tensor, Tensor, Tensor]:
    """Draw x [N, 2] far from zero, y [N, P] and a start [N, 3] at the true components, which overlap."""
    generator = Generator().manual_seed(5)
    x = 30.0 + torch.randn(n_rows, 2, generator=generator).double()
    z = torch.randint(K, (n_rows,), generator=generator)
    slopes = torch.randn(K, 2, n_outputs, generator=generator).double()
    y = torch.einsum("nd,ndp->np", x - 30.0, slopes[z]) + 7.0
    y = y + noise * torch.randn(n_rows, n_outputs, generator=generator).double()
    return x, y, nn.functional.one_hot(z, K).double() + 0.05


def fitted_planes(experts: Experts, noise: float = 0.5, n_rows: int = 300) -> tuple[FitResult, Tensor, Tensor]:
    """Fit planes or densities from their start."""
    x, y, start = planes(experts.n_outputs, noise, n_rows)
    mixture = MixtureOfExperts(DirichletGate(K), experts)
    return fit(mixture, x, y, initial_responsibilities=start, progress=False), x, y


def both(result: FitResult, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return M from moments and from products of features, and the bound on the error."""
    mixture = result.mixture
    responses = Passes(mixture, checked_table(mixture, x, y, None, None)).responses
    columns = mixture.experts.columns(x, y)
    r, weights = result.responsibilities.mT.contiguous(), 0.5 + torch.arange(len(x)).double() % 3
    features = joined(*(response.features(columns) for response in responses))
    size = features.common.shape[1] + features.own[..., 0].numel()
    expected = torch.zeros(size, size).double()
    add_missing(expected, features, r, weights)
    moments = SharedMoments(Frame.of(columns, weights, has_constant=responses[-1].has_constant), responses)
    for rows in (slice(0, 100), slice(100, None)):
        moments.add(columns[:, rows], r[:, rows], weights[rows])
    found, error = moments.missing()
    return found, symmetric(expected), error


@pytest.mark.parametrize("name", list(BANKS))
def test_moments_give_what_products_of_features_give(name: str) -> None:
    result, x, y = fitted_planes(BANKS[name]())
    found, expected, error = both(result, x, y)
    assert float(expected.diagonal().max()) > 0.01
    assert float(torch.linalg.matrix_norm(found - expected, 2)) < error < 1e-9


@pytest.mark.parametrize("name", list(BANKS))
def test_statistics_are_found_from_sums_of_features(name: str) -> None:
    result, x, y = fitted_planes(BANKS[name]())
    mixture, r = result.mixture, result.responsibilities
    gate, experts = Passes(mixture, checked_table(mixture, x, y, None, None)).responses
    sums = experts.totals(mixture.experts.statistics(x, y, r))
    again = experts.totals(experts.statistics(sums))
    torch.testing.assert_close(again.flat, sums.flat, rtol=1e-9, atol=1e-9)
    counts = mixture.gate.statistics(x, r)
    torch.testing.assert_close(gate.statistics(gate.totals(counts)).counts, counts.counts)


def equals_autograd(result: FitResult, x: Tensor, y: Tensor, precision: float) -> None:
    """Assert that the closed form has the covariance of automatic differentiation."""
    table = checked_table(result.mixture, x, y, None, None)
    closed = ClosedForm(copy.deepcopy(result.mixture), table).matrices()
    smooth = ByAutograd(copy.deepcopy(result.mixture), table, []).matrices()
    deviations = closed.covariance.diagonal().sqrt()
    assert relative(closed.covariance, smooth.covariance, deviations) < precision


def test_small_noise_has_a_bound_that_says_so_and_the_covariance_is_right() -> None:
    """Residuals of 1e-4 of y are differences of its moments of which few digits would be left."""
    result, x, y = fitted_planes(LinearExperts(K, 2, noise_rate=1e-8), noise=1e-4, n_rows=600)
    _, _, error = both(result, x, y)
    assert error > 1e-11
    equals_autograd(result, x, y, 1e-8)


@pytest.mark.parametrize("difference", [0.0, 1e-7])
def test_collinear_columns_have_the_covariance_of_automatic_differentiation(difference: float) -> None:
    x, y, start = planes(1)
    x[:, 1] = x[:, 0] + difference * (x[:, 1] - 30.0)
    experts = LinearExperts(K, 2, coefficient_precision=1.0)
    mixture = MixtureOfExperts(DirichletGate(K), experts)
    result = fit(mixture, x, y, initial_responsibilities=start, progress=False, max_iterations=2000)
    equals_autograd(result, x, y, 1e-8)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-7])
def test_large_work_ends_near_the_optimum(tolerance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, start = planes(1, 1.0)
    mixture = MixtureOfExperts(DirichletGate(K), LinearExperts(K, 2))
    result = fit(mixture, x, y, initial_responsibilities=start, progress=False, tolerance=tolerance)
    exact = linear_response(result, x, y)
    monkeypatch.setattr(closed_form, "MANY", 1)
    found = linear_response(result, x, y)
    deviations = exact.standard_deviations
    assert exact.missing_information > 0.3
    assert float(((found.estimates - exact.estimates) / deviations).abs().max()) < 1e-5
    assert relative(found.covariance, exact.covariance, deviations) < 1e-2


def test_thousands_of_coordinates_have_the_derivatives_of_refits() -> None:
    """Of 4 components and 31 columns, of which all but two do not matter."""
    generator = Generator().manual_seed(2)
    x = torch.randn(1200, 30, generator=generator).double()
    z = torch.randint(4, (1200,), generator=generator)
    slopes = torch.randn(4, 2, generator=generator).double()
    y = 3.0 * z + (x[:, :2] * slopes[z]).sum(1) + torch.randn(1200, generator=generator).double()
    start = nn.functional.one_hot(z, 4).double() + 0.05
    responses = []
    for change in (1e-4, 0.0):
        weights = torch.ones(1200).double()
        weights[7] += change
        mixture = MixtureOfExperts(DirichletGate(4), LinearExperts(4, 30, coefficient_precision=1.0, noise_rate=1.0))
        result = fit(mixture, x, y, weights=weights, initial_responsibilities=start, progress=False)
        responses.append(linear_response(result, x, y, weights=weights))
    higher, response = responses
    assert response.missing_information > 0.1
    numerical = (higher.estimates - response.estimates) / 1e-4
    torch.testing.assert_close(response.influence()[7], numerical, rtol=1e-2, atol=1e-5)
