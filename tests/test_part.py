"""What gates, experts and mixtures have in common."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mixpyro import DirichletGate, GLMExperts, LinearExperts, MixtureOfExperts
from mixpyro.gates import Gate


def returns_nothing(*arguments: Any, **options: Any) -> None:
    """Stand for a method."""


@pytest.mark.parametrize(
    ("base", "method", "formula"),
    [
        (DirichletGate, "update", "updated"),
        (DirichletGate, "statistics", "statistics_of"),
        (DirichletGate, "kl_divergence", "kl"),
        (LinearExperts, "expected_log_likelihood", "log_likelihood"),
        (LinearExperts, "kl_divergence", "kl"),
        (GLMExperts, "expected_log_likelihood", "log_likelihood"),
        (MixtureOfExperts, "expected_log_joint", "log_joint"),
    ],
)
def test_an_override_that_a_fit_would_not_read_is_refused(base: type, method: str, formula: str) -> None:
    """It would fit another model without a word. With the formula, the override is welcome."""
    with pytest.raises(TypeError, match=f"`Mine` must override `{formula}`, which a fit reads; got `{method}` alone"):
        type(base)("Mine", (base,), {"__module__": "theirs", method: returns_nothing})
    type(base)("Mine", (base,), {"__module__": "theirs", method: returns_nothing, formula: returns_nothing})


def test_statistics_without_a_posterior_are_refused() -> None:
    with pytest.raises(TypeError, match="`Mine` must be a ConjugateGate or ConjugateExperts to have statistics"):

        class Mine(Gate):
            def statistics(self, x: Tensor, responsibilities: Tensor) -> tuple[Tensor]:
                return (responsibilities.sum(0),)


def test_a_prior_is_fixed_where_it_is_asked_for_alone() -> None:
    gate = DirichletGate(2)
    assert gate.fixed_prior.concentration.tolist() == [1.0, 1.0]
    gate.prior_concentration = torch.tensor([2.0, 3.0]).double()
    assert gate.fixed_prior.concentration.tolist() == [2.0, 3.0]
    gate.fix_prior()
    gate.prior_concentration = torch.tensor([5.0, 5.0]).double()
    assert gate.fixed_prior.concentration.tolist() == [2.0, 3.0]
