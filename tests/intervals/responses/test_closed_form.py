"""The closed form of linear response against automatic differentiation and draws of the posterior."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pyro import poutine
from torch import Tensor

from mixpyro import DirichletGate, GaussianExperts, LinearExperts, MixtureOfExperts, fit, linear_response
from mixpyro.experts.base import Experts
from mixpyro.fitting.table import checked_table
from mixpyro.intervals.responses.autograd import ByAutograd
from mixpyro.intervals.responses.closed_form import ClosedForm
from tests.intervals.line_fits import fitted, relative, rows

pytestmark = pytest.mark.usefixtures("without_type_checks")

K = 2
CLOSED: dict[str, Callable[[], Experts]] = {
    "lines": lambda: LinearExperts(K, 1),
    "one noise": lambda: LinearExperts(K, 1, noise_per_component=False),
    "no intercept": lambda: LinearExperts(K, 1, intercept=False),
    "two outputs": lambda: LinearExperts(K, 1, 2),
    "two outputs, one noise each": lambda: LinearExperts(K, 1, 2, noise_per_output=False),
    "two outputs, a noise for each": lambda: LinearExperts(K, 1, 2, noise_per_component=False),
    "two outputs, one noise": lambda: LinearExperts(K, 1, 2, noise_per_output=False, noise_per_component=False),
    "density": lambda: GaussianExperts(K, 1),
    "full": lambda: GaussianExperts(K, 2),
    "diagonal": lambda: GaussianExperts(K, 2, covariance="diagonal"),
    "spherical": lambda: GaussianExperts(K, 2, covariance="spherical"),
    "tied": lambda: GaussianExperts(K, 2, covariance="tied"),
}


@pytest.mark.parametrize("setting", [2])
@pytest.mark.parametrize("name", list(CLOSED))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_closed_form_equals_automatic_differentiation(name: str, setting: int) -> None:
    experts = CLOSED[name]()
    x, y, start = rows(setting, experts.n_outputs)
    weights = 0.5 + torch.arange(len(x)).double() % 3
    result = fitted(DirichletGate(2, concentration=2.0), experts, x, y, start, weights=weights)
    table = checked_table(result.mixture, x, y, None, weights)
    closed = ClosedForm(copy.deepcopy(result.mixture), table).matrices()
    smooth = ByAutograd(copy.deepcopy(result.mixture), table, []).matrices()
    deviations = closed.covariance.diagonal().sqrt()
    precision = 1e-10 if float(closed.shares[-1]) < 0.9 else 4e-10
    assert closed.slope < 1e-9
    assert relative(closed.covariance, smooth.covariance, deviations) < precision
    assert relative(closed.mean_field, smooth.mean_field, deviations) < 1e-10
    assert abs(float(closed.shares[-1] - smooth.shares[-1])) < 1e-10
    for part in ("gate", "experts"):
        found = [matrices.response.mT @ matrices.priors[part] / deviations for matrices in (closed, smooth)]
        torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-9)
    scores = [torch.cat([own @ m.response for _, own in m.scores()]) / deviations for m in (closed, smooth)]
    torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", list(CLOSED))
def test_with_one_component_it_is_the_covariance_of_the_posterior(name: str) -> None:
    """Of draws from Pyro's guide, whose sites know nothing of linear response."""
    x, y, _ = rows(0, CLOSED[name]().n_outputs, 60)
    made = CLOSED[name]()
    options = {key: getattr(made, key) for key in ("noise_per_output", "intercept") if hasattr(made, key)}
    one: Experts = (
        LinearExperts(1, 1, made.n_outputs, **options)
        if isinstance(made, LinearExperts)
        else GaussianExperts(1, made.n_outputs, covariance=str(made.covariance))
    )
    result = fit(MixtureOfExperts(DirichletGate(1), one), x, y, progress=False)
    response = linear_response(result, x, y)
    draws = torch.stack([draw_of(one, x) for _ in range(1500)])
    deviations = response.standard_deviations
    assert response.missing_information < 1e-9
    assert relative(response.covariance, response.mean_field, deviations) < 1e-9
    assert float(((draws.mean(0) - response.estimates) / deviations).abs().max()) < 0.12
    assert relative(draws.mT.cov(), response.covariance, deviations) < 0.16
    if isinstance(one, LinearExperts):
        exact = one.coefficient_standard_deviations.flatten()
        torch.testing.assert_close(deviations[: len(exact)], exact, rtol=1e-3, atol=0.0)


def draw_of(experts: Experts, x: Tensor) -> Tensor:
    """Return one draw of the quantities of one component from the guide."""
    with poutine.trace() as tracer:
        experts.guide(x)
    nodes = tracer.trace.nodes.items()
    sites: Any = {name.split(".")[-1]: site["value"] for name, site in nodes if site["type"] == "sample"}
    if "coefficients" in sites:
        n_noises = experts.posterior_rate.shape[1]
        return torch.cat([sites["coefficients"].flatten(), sites["precision"].reshape(-1)[:n_noises].log()])
    log_precision = sites["conditional_precision" if "conditional_precision" in sites else "precision"].log()
    return torch.cat([sites["mean"].flatten(), log_precision.flatten(), sites.get("regression", x[:0]).flatten()])
