"""Derivatives of log likelihoods of linear predictors, against automatic differentiation."""

import pytest
import torch
from torch import Tensor

from mixpyro.experts.families import Binomial, Categorical, Family, Gaussian, Poisson
from mixpyro.experts.weighted_likelihood import WeightedLikelihood
from mixpyro.numerics import blocks
from mixpyro.numerics.linear_predictors import LinearPredictors, RowTerms
from mixpyro.numerics.soft_labels import SoftLabels, with_reference
from tests.problems import inputs, responsibilities

N, K = 25, 3


def likelihood(family: Family, *, everywhere: bool = False) -> WeightedLikelihood:
    """Counts below 3 in K components, of which every third row has no part in the first unless ``everywhere``."""
    r = responsibilities(N, K)
    r[::3, 0] = 0.0
    y = (torch.arange(N) % 3).double().unsqueeze(-1)
    scale = torch.tensor([[0.5], [1.0], [2.0]])
    return WeightedLikelihood(family, y, torch.full((1, 1, 1), 4.0), torch.ones(N, K) if everywhere else r, scale)


CASES: dict[str, tuple[RowTerms, int, int]] = {
    "soft labels": (SoftLabels(3.0 * responsibilities(N, K)), 1, K - 1),
    "gaussian": (likelihood(Gaussian()), K, 1),
    "poisson": (likelihood(Poisson()), K, 1),
    "binomial": (likelihood(Binomial()), K, 1),
    "categorical": (likelihood(Categorical(4)), K, 3),
}


@pytest.fixture(params=CASES)
def terms(request: pytest.FixtureRequest) -> tuple[RowTerms, int, int]:
    """Each case in turn, with its numbers of functions and of predictors."""
    return CASES[request.param]


@pytest.mark.parametrize("prior_scale", [None, 0.7])
def test_derivatives_are_those_of_automatic_differentiation(
    terms: tuple[RowTerms, int, int], prior_scale: float | None
) -> None:
    rows, n_functions, n_predictors = terms
    functions = LinearPredictors(2.0 + inputs(N, 2), rows, n_predictors=n_predictors, prior_scale=prior_scale)
    b = 0.3 * inputs(n_functions, 3 * n_predictors)
    expansion = functions.expansion(b)

    def total(flat: Tensor) -> Tensor:
        return functions.values(flat.reshape(b.shape)).sum()

    gradient = torch.autograd.functional.jacobian(total, b.flatten()).reshape(b.shape)
    torch.testing.assert_close(expansion.gradient, gradient)
    hessian = torch.autograd.functional.hessian(total, b.flatten())
    torch.testing.assert_close(torch.block_diag(*expansion.information()), -hessian)
    direction = inputs(*b.shape, seed=2)
    expected = (-hessian @ direction.flatten()).reshape(b.shape)
    torch.testing.assert_close(expansion.information_product(direction), expected)
    assert ((expansion.precondition(direction) * direction).sum(-1) > 0).all()


def test_coefficients_of_both_kinds_give_the_same_predictors() -> None:
    x = torch.tensor([1e3, 1e-4]).double() * inputs(N, 2) + torch.tensor([5e4, 0.0]).double()
    functions = LinearPredictors(x, SoftLabels(responsibilities(N, K)), n_predictors=K - 1)
    original = torch.tensor([[[1.0, 2e-3, 3e3], [0.5, -1e-3, 1e4]]]).double()
    standardised = functions.standardised_coefficients(original)
    expected = torch.cat([torch.ones(N, 1).double(), x], 1) @ original[0].mT
    torch.testing.assert_close(functions.predictors(standardised)[:, 0], expected)
    torch.testing.assert_close(functions.original_coefficients(standardised), original)


def test_the_preconditioner_is_the_inverse_where_all_rows_have_one_curvature() -> None:
    functions = LinearPredictors(inputs(N, 2), likelihood(Gaussian(), everywhere=True), n_predictors=1)
    expansion = functions.expansion(torch.zeros(K, 3).double())
    direction = inputs(K, 3)
    found = expansion.precondition(expansion.information_product(direction))
    torch.testing.assert_close(found, direction, rtol=1e-6, atol=1e-6)


def test_the_reference_class_has_logit_zero() -> None:
    torch.testing.assert_close(with_reference(torch.tensor([[2.0, 3.0]])), torch.tensor([[0.0, 2.0, 3.0]]))
    assert torch.equal(with_reference(torch.zeros(4, 0)), torch.zeros(4, 1))


def test_blocks_of_rows_change_nothing(terms: tuple[RowTerms, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    rows, n_functions, n_predictors = terms
    functions = LinearPredictors(2.0 + inputs(N, 2), rows, n_predictors=n_predictors, prior_scale=0.7)
    generator = torch.Generator().manual_seed(1)
    point, direction = 0.3 * torch.randn(2, n_functions, 3 * n_predictors, generator=generator).double()

    def found() -> list[torch.Tensor]:
        expansion = functions.expansion(point)
        return [
            functions.values(point),
            functions.bounded(20.0 * direction),
            expansion.gradient,
            expansion.information(),
            expansion.information_product(direction),
            expansion.precondition(direction),
        ]

    whole = found()
    monkeypatch.setattr(blocks, "LIMITS", blocks.LIMITS._replace(numbers=1, newton_factor=7 * n_predictors))
    assert len(list(functions.blocks(n_functions))) > 1
    torch.testing.assert_close(found(), whole, rtol=1e-12, atol=1e-12)
