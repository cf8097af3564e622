"""Checks of statistics and posteriors."""

from typing import NamedTuple

import pyro
import pytest
import torch
from torch import Tensor

from mixpyro import arguments


class Mean(NamedTuple):
    """The inner of two nested posteriors."""

    location: Tensor
    precision: Tensor


class Posterior(NamedTuple):
    """The outer of two nested posteriors."""

    mean: Mean
    rate: Tensor


def posterior(n_components: int = 2) -> Posterior:
    ones = torch.ones(n_components)
    return Posterior(Mean(ones, ones), ones)


def test_a_posterior_of_the_right_shapes_passes() -> None:
    after = posterior()
    arguments.posterior(after, like=posterior())
    arguments.same_shapes("statistics", after.mean, posterior().mean)
    for value, unchanged in zip((*after.mean, after.rate), (*posterior().mean, posterior().rate), strict=True):
        assert torch.equal(value, unchanged)


def test_another_shape_is_refused_by_the_name_of_its_field() -> None:
    with pytest.raises(ValueError, match=r"`statistics` must lead to a location of shape \[2\]; got \[3\]"):
        arguments.posterior(posterior(3), like=posterior())
    with pytest.raises(ValueError, match=r"`statistics.location` must have shape \[2\]; got \[3\]"):
        arguments.same_shapes("statistics", posterior(3).mean, posterior().mean)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_posterior_that_is_not_finite_is_refused_while_values_are_checked(bad: float) -> None:
    singular = posterior()._replace(rate=torch.tensor([1.0, bad]))
    with pytest.raises(ValueError, match="`statistics` must lead to a positive definite matrix; got one that is n"):
        arguments.posterior(singular, like=posterior())
    with pyro.validation_enabled(False):
        arguments.posterior(singular, like=posterior())
