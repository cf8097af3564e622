"""Results refuse rows that were not fitted, which the bound tells."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mixpyro import (
    DirichletGate,
    FitResult,
    GaussianExperts,
    GLMExperts,
    HeterogeneousExperts,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    ObjectDirichletGate,
    RelevanceLinearExperts,
    SoftmaxGate,
    coefficients,
    compare,
    criteria,
    fit,
    fit_minibatches,
    to_arviz,
)
from mixpyro.diagnostics import ResponsibilityDraws, exact_loo
from mixpyro.experts.families import Gaussian, Poisson
from mixpyro.fitting.fitted_rows import fitted_rows
from tests.problems import lines

OTHERS = "`x` and `y` must be the rows that were fitted.*got a bound of"
MIXTURES: dict[str, Callable[[], MixtureOfExperts]] = {
    "linear": lambda: MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)),
    "relevance": lambda: MixtureOfExperts(DirichletGate(2), RelevanceLinearExperts(2, 1)),
    "object": lambda: MixtureOfExperts(ObjectDirichletGate(2), LinearExperts(2, 1)),
    "marginal": lambda: MixtureOfExperts(MarginalObjectDirichletGate(2, learn_mean=True), LinearExperts(2, 1)),
    "gaussian": lambda: MixtureOfExperts(SoftmaxGate(2, 1, prior_scale=2.0), GaussianExperts(2, 1)),
    "glm": lambda: MixtureOfExperts(SoftmaxGate(2, 1, prior_scale=2.0), GLMExperts(2, 1, Gaussian(), prior_scale=9.0)),
    "poisson": lambda: MixtureOfExperts(DirichletGate(2), GLMExperts(2, 1, Poisson(), prior_scale=2.0)),
    "heterogeneous": lambda: MixtureOfExperts(
        DirichletGate(2), HeterogeneousExperts([LinearExperts(1, 1), GLMExperts(1, 0, Gaussian())])
    ),
}


def rows(name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return rows that fit the mixture."""
    x, y, _ = lines(40, 2)
    return x.to(dtype), (y.abs().round() if name == "poisson" else y).to(dtype)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", MIXTURES)
def test_the_rows_of_the_fit_are_known_and_others_refused(name: str, dtype: torch.dtype) -> None:
    x, y = rows(name, dtype)
    result = fit(MIXTURES[name]().to(dtype), x, y, n_restarts=1, n_candidates=1, max_iterations=10, progress=False)
    fitted_rows(result, x, y)
    far = torch.finfo(dtype).max / 2 if name != "poisson" else 1e15
    for other_x, other_y in ((x, y.flip(0)), (x.flip(0), y), (x, torch.cat([y[1:], y[:1]])), (x, y + far)):
        with pytest.raises(ValueError, match=OTHERS):
            fitted_rows(result, other_x, other_y)
    with pytest.raises(ValueError, match="`x` must be what was fitted, 40 rows; got 7"):
        fitted_rows(result, x[:7], y[:7])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rows_of_weight_zero_and_weights_are_known() -> None:
    x, y = rows("linear", torch.float64)
    weights = torch.arange(40).double() % 3
    for fitted in (
        fit(MIXTURES["linear"](), x, y, weights=weights, n_restarts=1),
        fit_minibatches(MIXTURES["linear"](), x, y, weights=weights, batch_size=15, n_epochs=2, n_restarts=2),
    ):
        fitted_rows(fitted, x, y)
        # What has no weight has no part in the fit.
        fitted_rows(fitted, x, torch.where(weights.unsqueeze(-1) == 0, 0.0, y))
        with pytest.raises(ValueError, match=OTHERS):
            fitted_rows(fitted, x, y, weights=weights.flip(0))


def test_every_report_refuses_other_rows() -> None:
    x, y = rows("glm", torch.float64)
    result = fit(MIXTURES["glm"](), x, y, n_restarts=1, n_candidates=1, progress=False)
    data, other = to_arviz(result, x, y, n_draws=3), y.flip(0)
    doors: tuple[Callable[[FitResult, Tensor, Tensor], object], ...] = (
        criteria,
        coefficients,
        to_arviz,
        exact_loo,
        lambda fitted, *new: ResponsibilityDraws(data, fitted, *new),
        lambda fitted, *new: compare({"it": fitted}, *new),
    )
    for door in doors:
        with pytest.raises(ValueError, match=OTHERS):
            door(result, x, other)
        # Their bound is not finite.
        with pytest.raises(ValueError, match=OTHERS):
            door(result, x * 1e155, y)
    with pytest.raises(ValueError, match=OTHERS):
        coefficients(result, x, y, weights=torch.arange(40).double())
    # New rows, and some of the fitted ones, where the caller says so.
    to_arviz(result.mixture, x[:3], y[:3], n_draws=3)
    to_arviz(result, x[:3], y[:3], objects=torch.arange(3), n_draws=3)


def test_a_mixture_that_was_fitted_again_is_told() -> None:
    x, y = rows("linear", torch.float64)
    mixture = MIXTURES["linear"]()
    first = fit(mixture, x, y, n_restarts=2)
    known = criteria(first, x, y)
    fit(mixture, x, y + x, n_restarts=2)
    with pytest.raises(ValueError, match="the mixture has been changed since"):
        criteria(first, x, y)
    assert float(first.at(0).log_prob(x, y).sum()) == pytest.approx(known.log_likelihood)
