"""Differences of log gamma functions that keep their digits at large arguments."""

import torch
from torch import Tensor

# Argument from which the series, with the terms below, is exact to the last digit.
LARGE = 20.0


def log_gamma_half_step(argument: Tensor) -> Tensor:
    """Compute log Γ(h + ½) − log Γ(h).

    Args:
        argument: h, above 0, of any shape.

    Returns:
        The differences, float64.

    References:
        Tricomi, Erdélyi (1951), The asymptotic expansion of a ratio of gamma functions, eq. 2.
    """
    h = argument.double()
    large, small = h.clamp_min(LARGE), h.clamp_max(LARGE)
    inverse = large.reciprocal()
    squared = inverse.square()
    remainder = inverse * (-1.0 / 8.0 + squared * (1.0 / 192.0 + squared * (-1.0 / 640.0 + squared * (17.0 / 14336.0))))
    return torch.where(h < LARGE, torch.lgamma(small + 0.5) - torch.lgamma(small), 0.5 * large.log() + remainder)
