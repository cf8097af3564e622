"""Where the inputs and outputs of regressions are counted from."""

from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro.shapes import Outputs


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

    @property
    def back(self) -> Tensor:
        """A⁻¹ [E, E], float64."""
        back = self.shift
        if self.intercept:
            back[0, 1:] = self.x
        return back


def columns_from(values: Outputs, origin: Tensor) -> Tensor:
    """The columns of ``values`` [N, P], counted from ``origin`` [P], as the rows of a tensor [P, N], in values' dtype.

    What a dtype cannot hold of the origin is taken off next, so that nothing is lost but the result's own rounding.
    """
    high = origin.to(values.dtype)
    # A difference written where it shall be takes a third of the time of a transposed copy, but has no gradient.
    differentiable = values.requires_grad and torch.is_grad_enabled()
    place = None if differentiable else values.new_empty(values.shape[1], len(values))
    columns = torch.sub(values.mT, high.unsqueeze(-1), out=place).contiguous()
    return columns if high.dtype == origin.dtype else columns.sub_((origin - high).to(values.dtype).unsqueeze(-1))
