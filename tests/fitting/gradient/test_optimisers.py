"""L-BFGS as an optimiser of Pyro's."""

import pytest
import torch
from torch.nn import Parameter

from mixpyro.fitting.gradient.optimisers import LineSearches


@pytest.mark.parametrize(("tolerance", "near"), [(1e-14, 1e-6), (10.0, 0.9)])
def test_it_goes_to_the_optimum_or_until_a_step_gains_too_little(tolerance: float, near: float) -> None:
    theta = Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    evaluations = []

    def loss_and_gradients() -> float:
        loss = 100.0 * (theta[1] - theta[0] ** 2) ** 2 + (1.0 - theta[0]) ** 2
        loss.backward()
        evaluations.append(loss.item())
        return evaluations[-1]

    LineSearches([theta], 100, loss_and_gradients, tolerance=tolerance)([theta])
    distance = float((theta.detach() - 1.0).abs().max())
    assert distance < near if tolerance < 1.0 else distance > near
