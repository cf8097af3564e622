"""What a fit says of priors that outweigh the data."""

import pytest
import torch

from mixpyro import DirichletGate, HeterogeneousExperts, LinearExperts, MixtureOfExperts, fit
from mixpyro.experts import Experts
from tests.problems import lines


@pytest.mark.parametrize("make", [lambda: LinearExperts(2, 1), lambda: HeterogeneousExperts([LinearExperts(2, 1)])])
def test_a_prior_that_outweighs_the_data_is_told(make: type[Experts]) -> None:
    x, y, _ = lines(80, 2, seed=3)
    with pytest.warns(RuntimeWarning, match="the prior says more of the noise than the data do: `noise_rate`, 0.01"):
        fit(MixtureOfExperts(DirichletGate(2), make()), x, 1e-3 * y, n_restarts=2)  # type: ignore[call-arg]
    fit(MixtureOfExperts(DirichletGate(2), make()), x, y, n_restarts=2)  # type: ignore[call-arg]


def test_few_objects_are_no_reason_to_worry() -> None:
    x = torch.arange(5.0).double().unsqueeze(1)
    assert fit(MixtureOfExperts(DirichletGate(1), LinearExperts(1, 1)), x, x, n_restarts=1).converged
