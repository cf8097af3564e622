"""Newton's method for functions of few parameters."""

import torch
from torch import Tensor

from mixpyro.numerics.few_parameters import maximised_few

WIDE = torch.full((1, 2), 50.0, dtype=torch.float64)


def test_maxima_of_functions_that_are_not_concave_are_found() -> None:
    """−log(1 + (u − a)² + 4 (v − b)²) is convex away from its maximum."""
    at = torch.tensor([[1.0, -2.0], [-3.0, 0.5], [0.0, 0.0]], dtype=torch.float64)

    def function(point: Tensor) -> Tensor:
        distance = (point - at).square()
        return -(1.0 + distance[:, 0] + 4.0 * distance[:, 1]).log()

    start = torch.zeros(3, 2, dtype=torch.float64)
    found = maximised_few(function, start, -WIDE.expand(3, 2), WIDE.expand(3, 2), n_steps=40)
    torch.testing.assert_close(found, at, rtol=0, atol=1e-5)
    assert bool(
        (
            function(maximised_few(function, start, -WIDE.expand(3, 2), WIDE.expand(3, 2), n_steps=1))
            >= function(start)
        ).all()
    )


def test_limits_hold_one_parameter_and_leave_the_other_free() -> None:
    """The maximum of −(u − 1)² − (u − v)² with u at most 0 is at (0, 0)."""

    def function(point: Tensor) -> Tensor:
        return -(point[:, 0] - 1.0).square() - (point[:, 0] - point[:, 1]).square()

    high = torch.tensor([[0.0, 50.0]], dtype=torch.float64)
    found = maximised_few(function, torch.tensor([[-2.0, 3.0]], dtype=torch.float64), -WIDE, high, n_steps=20)
    torch.testing.assert_close(found, torch.zeros(1, 2, dtype=torch.float64), rtol=0, atol=1e-6)


def test_a_function_that_overflows_stays_where_it_is() -> None:
    start = torch.ones(1, 2, dtype=torch.float64)
    found = maximised_few(lambda point: point.sum(-1) * torch.inf, start, -WIDE, WIDE)
    assert torch.equal(found, start)
