"""Anderson's acceleration on a linear iteration, where it ends in as many steps as there are eigenvalues."""

import torch

from mixpyro.numerics.anderson import Anderson


def test_a_linear_iteration_of_three_rates_ends_after_four_steps() -> None:
    directions, _ = torch.linalg.qr(torch.randn(30, 30).double())
    rates = torch.tensor([0.95, 0.6, 0.1]).double().repeat(10)
    rate = (directions * rates) @ directions.mT
    target, x = torch.randn(30).double(), torch.zeros(30).double()
    acceleration = Anderson()
    for _ in range(4):
        x = x + acceleration.step((rate - torch.eye(30).double()) @ (x - target))
    torch.testing.assert_close(x, target, rtol=0, atol=1e-9)
