"""The digamma function of many float32 numbers, computed by vector operations.

``torch.digamma`` takes numbers one by one, which costs more than everything else that a Dirichlet gate does.
"""

import torch
from torch import Tensor

# Numbers. For fewer, twenty vector operations take longer than PyTorch's loop.
LEAST_NUMBERS = 8192
# The square of a larger number may overflow float32.
LARGEST = 1e18


def digamma(x: Tensor) -> Tensor:
    """Compute the digamma function of every entry.

    ψ(x) = ψ(x + 4) − 1/x − 1/(x + 1) − 1/(x + 2) − 1/(x + 3). From 4 on the asymptotic series to y⁻⁸ is used, whose
    next term is 1 / (132 y¹⁰) < 1e-8. Many positive float32 numbers on a CPU are computed so, to float32 rounding;
    anything else by ``torch.digamma``.

    Args:
        x: a tensor of any shape and floating dtype.

    Returns:
        ψ(x), of the same shape and dtype.

    References:
        Abramowitz, Stegun (1964), Handbook of Mathematical Functions, eq. 6.3.6, 6.3.18.
    """
    return _by_vectors(x) if _suits(x) else torch.digamma(x)


def _suits(x: Tensor) -> bool:
    """Check for many float32 numbers on a CPU, which need neither the reflection formula nor a gradient."""
    if x.dtype != torch.float32 or x.device.type != "cpu" or x.numel() < LEAST_NUMBERS or x.requires_grad:
        return False
    low, high = torch.stack(torch.aminmax(x)).tolist()
    return low > 0.0 and high < LARGEST


def _by_vectors(x: Tensor) -> Tensor:
    """Compute ψ(x) of positive float32 numbers by recurrence and asymptotic series."""
    y = x + 4.0
    result = y.log().sub_(_reciprocals(x))
    inverse = y.reciprocal_()
    square = inverse * inverse
    # Horner's scheme of the series in 1 / y².
    series = (square * (-1 / 240)).add_(1 / 252).mul_(square).sub_(1 / 120).mul_(square).add_(1 / 12).mul_(square)
    return result.sub_(series).sub_(inverse, alpha=0.5)


def _reciprocals(x: Tensor) -> Tensor:
    """Compute 1/x + 1/(x + 1) + 1/(x + 2) + 1/(x + 3) with two divisions."""
    # With t = x (x + 3), the outer two are (2x + 3) / t and the inner two (2x + 3) / (t + 2).
    t = (x + 3.0).mul_(x)
    numerator = (x * 2.0).add_(3.0)
    outer = numerator / t
    return outer.addcdiv_(numerator, t.add_(2.0))
