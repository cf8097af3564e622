"""Errors of inner functions name the arguments of the function that was called."""

from typing import Any

import pytest
import torch

from mixpyro import (
    DirichletGate,
    Groups,
    LinearExperts,
    MixtureOfExperts,
    StreamingFit,
    TreeGate,
    arguments,
    coefficients,
    grow_tree,
)
from mixpyro.hyper_models import HyperModelDirichlet, HyperModelGateSparsed

pytestmark = pytest.mark.usefixtures("bad_arguments")


def test_a_name_in_backticks_is_replaced_everywhere() -> None:
    with (
        pytest.raises(ValueError, match=r"^`ids` must be below `ids\.size`; got `x`\.$"),
        arguments.renamed(inner="ids"),
    ):
        raise ValueError("`inner` must be below `inner.size`; got `x`.")


def test_errors_without_the_name_stay_as_they_are() -> None:
    error = TypeError("`x` must be a tensor.")
    with pytest.raises(TypeError) as found, arguments.renamed(inner="ids"):
        raise error
    assert found.value is error


def test_public_functions_name_their_own_arguments() -> None:
    odd: object = 3.5
    with pytest.raises(TypeError, match="`tree` must be"):
        TreeGate(odd, 2)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`mu_prior` must be"):
        HyperModelDirichlet(2, mu_prior=odd)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`learn_mu` must be"):
        HyperModelGateSparsed(2, learn_mu=odd)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`ids` must be"):
        Groups.of(odd)
    with pytest.raises(TypeError, match="`fitted` must be what `fit` returned"):
        coefficients(odd)  # type: ignore[arg-type]


def test_functions_that_take_other_arguments_are_refused() -> None:
    odd: Any
    mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1))
    for odd in (lambda: 0.5, lambda one, two: 0.5, LinearExperts(2, 1)):
        with pytest.raises(TypeError, match="`step_size` must be"):
            StreamingFit(mixture, step_size=odd)
        with pytest.raises(TypeError, match="`experts` must be a function"):
            grow_tree(odd, torch.zeros(4, 1), torch.zeros(4))


def test_a_tensor_of_groups_is_refused_by_the_name_it_was_given() -> None:
    with pytest.raises(TypeError, match="`ids` must be a dense tensor"):
        Groups.of(torch.ones(2, device="meta"))
