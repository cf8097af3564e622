"""Anderson's acceleration of an iteration towards a fixed point."""

import torch
from torch import Tensor


class Anderson:
    """The next step of an iteration x ← x + f(x), from all residuals f so far.

    The step is that of the combination of all points at which the residual, taken as linear, is least. With the bound's
    curvature constant it is as good as a step of conjugate gradients.

    References:
        Walker, Ni (2011), Anderson acceleration for fixed-point iterations, SIAM J. Numer. Anal. 49, eq. 2.2.
    """

    def __init__(self) -> None:
        self._residuals: list[Tensor] = []
        self._moves: list[Tensor] = []  # from each earlier point to the current one

    def step(self, residual: Tensor) -> Tensor:
        """Return the step from the current point, which is taken then [P].

        Args:
            residual: f at the current point [P].
        """
        step = residual
        if self._residuals:
            changes = residual.unsqueeze(-1) - torch.stack(self._residuals, dim=-1)
            shares = torch.linalg.lstsq(changes, residual.unsqueeze(-1)).solution
            step = residual - ((changes + torch.stack(self._moves, dim=-1)) @ shares).squeeze(-1)
        self._moves = [*(move + step for move in self._moves), step]
        self._residuals.append(residual)
        return step
