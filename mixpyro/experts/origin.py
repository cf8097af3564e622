"""Where the inputs and outputs of regressions are counted from."""

from typing import NamedTuple

import torch
from torch import Tensor


class Origin(NamedTuple):
    """w = shift w̃ + offset are coefficients for y on [1, x] as they are, where w̃ count x and y from the origin."""

    x: Tensor  # [D]
    y: Tensor  # [P]
    intercept: bool  # without one there is nothing that could move, and the origin is zero

    @property
    def shift(self) -> Tensor:
        """A [E, E], float64: the intercept goes back to where x is zero."""
        size = len(self.x) + int(self.intercept)
        shift = torch.eye(size, dtype=torch.float64, device=self.x.device)
        if self.intercept:
            shift[0, 1:] = -self.x
        return shift

    @property
    def offset(self) -> Tensor:
        """(y's origin, 0, …) [P, E], float64."""
        size = len(self.x) + int(self.intercept)
        offset = torch.zeros(len(self.y), size, dtype=torch.float64, device=self.y.device)
        offset[:, 0] = self.y
        return offset
