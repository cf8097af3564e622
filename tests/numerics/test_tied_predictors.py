"""Derivatives of log likelihoods with common coefficients, against automatic differentiation."""

import pytest
import torch
from torch import Tensor

from mixpyro.experts.families import Categorical, Family, Poisson
from mixpyro.experts.sharing import Sharing
from mixpyro.experts.weighted_likelihood import WeightedLikelihood
from mixpyro.numerics.linear_predictors import LinearPredictors
from mixpyro.numerics.tied_predictors import TiedPredictors
from tests.problems import inputs, responsibilities

N, K, D = 25, 3, 2
SHARED = {
    "slope": Sharing([1], None, n_components=K, n_features=D, has_scale=False),
    "intercept": Sharing(["intercept"], None, n_components=K, n_features=D, has_scale=False),
    "nested": Sharing(["intercept", 0], [[0, 2], [1]], n_components=K, n_features=D, has_scale=False),
}


def functions(family: Family, sharing: Sharing, prior_scale: float | None, *, own: bool = True) -> TiedPredictors:
    """Counts below 3 in K components, of columns far from zero; own coefficients may be held at a value."""
    y = (torch.arange(N) % 3).double().unsqueeze(-1)
    terms = WeightedLikelihood(family, y, torch.ones(1, 1, 1), responsibilities(N, K), torch.ones(K, 1))
    each = LinearPredictors(2.0 + inputs(N, D), terms, n_predictors=family.n_predictors)
    selection = sharing.selection(own=own, common=True, like=y)
    fixed = torch.full((K, family.n_predictors, D + 1), 0.2).double() * (selection.sum(-1) == 0).unsqueeze(1)
    return TiedPredictors(each, selection, fixed, prior_scale=prior_scale)


@pytest.mark.parametrize("prior_scale", [None, 0.7])
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("sharing", SHARED)
@pytest.mark.parametrize("family", [Poisson(), Categorical(4)])
def test_derivatives_are_those_of_automatic_differentiation(
    family: Family, sharing: str, own: bool, prior_scale: float | None
) -> None:
    tied = functions(family, SHARED[sharing], prior_scale, own=own)
    b = 0.3 * inputs(1, family.n_predictors * tied.basis.shape[-1])
    expansion = tied.expansion(b)

    def total(flat: Tensor) -> Tensor:
        return tied.values(flat.reshape(b.shape)).sum()

    gradient = torch.autograd.functional.jacobian(total, b.flatten()).reshape(b.shape)
    torch.testing.assert_close(expansion.gradient, gradient)
    hessian = torch.autograd.functional.hessian(total, b.flatten())
    torch.testing.assert_close(expansion.information()[0], -hessian)
    direction = inputs(*b.shape, seed=2)
    torch.testing.assert_close(expansion.information_product(direction)[0], -hessian @ direction[0])
    assert (expansion.precondition(direction) * direction).sum() > 0


@pytest.mark.parametrize("sharing", SHARED)
def test_coefficients_go_there_and_back(sharing: str) -> None:
    tied, of = functions(Categorical(4), SHARED[sharing], 0.7), SHARED[sharing]
    own, common = inputs(K * 3, len(of.own_columns)), inputs(len(of.sets) * 3, len(of.columns), seed=1)
    own, common = own.reshape(K, 3, -1), common.reshape(len(of.sets), 3, -1)
    b = of.joined(own, common)
    point = tied.standardised_coefficients(b)
    torch.testing.assert_close(tied.original_coefficients(point), b)
    for part, back in zip((own, common), of.parted(tied.original_coefficients(point)), strict=True):
        torch.testing.assert_close(part, back)
    penalised = 0.5 * 0.7**-2 * (own.square().sum() + common.square().sum())
    of_prior = functions(Categorical(4), of, None).values(point) - tied.values(point)
    torch.testing.assert_close(of_prior[0], penalised)


def test_the_moments_are_those_of_the_rows_of_all_functions() -> None:
    tied = functions(Poisson(), SHARED["slope"], None)
    weights = responsibilities(N, K)
    total, moments = tied.moments(weights)
    rows = torch.einsum("ne,kef->nkf", tied.each.columns, tied.basis)
    torch.testing.assert_close(moments, torch.einsum("nk,nkf,nkg->fg", weights, rows, rows))
    assert total == pytest.approx(float(weights.sum()))


def test_a_step_is_shortened_to_what_the_farthest_row_allows() -> None:
    tied = functions(Poisson(), SHARED["slope"], None)
    step = 100.0 * inputs(1, tied.basis.shape[-1])
    offset = tied.predictors(torch.zeros_like(step))
    changes = (tied.predictors(tied.bounded(step)) - offset).abs()
    assert float(changes.max()) == pytest.approx(1.0)
    assert float((tied.predictors(step) - offset).abs().max()) > 10.0
