"""Variance of the logarithm of a Gamma variable beyond what the variable itself explains."""

import torch
from torch import Tensor

# Shape above which ψ'(a) − 1/a is summed from its asymptotic series; below it cancellation costs at most two digits.
LARGE_SHAPE = 50.0


def excess_of_log(shape: Tensor) -> Tensor:
    """Return ψ'(a) − 1/a: the variance of log τ less what a linear function of τ ~ Gamma(a, b) explains.

    Args:
        shape: a, above zero, of any shape, float64.

    References:
        Abramowitz, Stegun (1964), Handbook of Mathematical Functions, eq. 6.4.12.
    """
    inverse = 1.0 / shape
    square = inverse.square()
    series = square * (0.5 + inverse * (1 / 6 - square * (1 / 30 - square * (1 / 42 - square / 30))))
    return torch.where(shape > LARGE_SHAPE, series, torch.polygamma(1, shape) - inverse)
