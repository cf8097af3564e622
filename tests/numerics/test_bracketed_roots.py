"""Roots of rising functions in a bracket, and the number of evaluations that they take."""

import torch
from torch import Tensor

from mixpyro.numerics.bracketed_roots import least_reached, nearly_reached

LOCATIONS = torch.linspace(-3.0, 3.0, 1000).double().unsqueeze(1)
SCALES = (1.0 + LOCATIONS.square()).sqrt()
# In log odds of a normal, 0.3 of it below the root.
LEVEL = torch.tensor(0.3).double()
ROOTS = LOCATIONS + SCALES * torch.special.ndtri(LEVEL)
LOW, HIGH = LOCATIONS - 7.0 * SCALES, LOCATIONS + 5.0 * SCALES


class Normals:
    """Log odds of the share of normals below y, less those of a level; zero where only rounding is left."""

    def __init__(self) -> None:
        self.n_calls = 0

    def __call__(self, numbers: Tensor, y: Tensor) -> Tensor:
        """Return the heights of some of the functions."""
        self.n_calls += 1
        shares = torch.special.ndtr((y - LOCATIONS[numbers]) / SCALES[numbers])
        heights = shares.logit() - LEVEL.logit()
        return torch.where(shares >= LEVEL, heights.clamp_min(0.0), heights.clamp_max(-1e-300))


def test_a_root_that_a_step_hits_takes_no_halvings() -> None:
    heights = Normals()
    found = least_reached(heights, LOW, HIGH, torch.tensor([False]))
    torch.testing.assert_close(found, ROOTS, rtol=1e-13, atol=1e-14)
    assert heights.n_calls < 30  # Some of a thousand steps end at zero exactly; halving from there took 75.


def test_points_after_a_few_steps_are_near_the_roots() -> None:
    heights = Normals()
    near = nearly_reached(heights, LOW, HIGH, n_steps=7)
    torch.testing.assert_close(near, ROOTS, rtol=0.0, atol=1e-6)
    assert heights.n_calls == 9
