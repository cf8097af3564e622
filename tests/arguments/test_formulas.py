"""Formulas that fail name the tensors they fail of, and say what is wrong with them."""

import pytest
import torch

from mixpyro.experts.families import Binomial, Categorical, Family, Gaussian, Poisson


@pytest.mark.parametrize("family", [Binomial(), Categorical(3), Gaussian(), Poisson()])
def test_predictors_that_are_nan_are_not_called_ones_of_a_wrong_shape(family: Family) -> None:
    eta = torch.full((3, 2, max(family.n_predictors, 1)), torch.nan).double()
    with pytest.raises(ValueError, match=r"^`eta` and `exposure` and `scale` must give a distribution; got \w+ out of"):
        family.distribution(eta, torch.ones(3, 1, 1).double(), torch.ones(2, 1).double())
