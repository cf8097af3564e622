"""The digamma function of many numbers: PyTorch takes them one by one, which costs more than all else of a gate."""

import torch
from torch import Tensor

# Fewer numbers do not repay twenty short operations.
WORTH_IT = 8192
# float32 can hold the square of no much larger number.
LARGEST = 1e18


def digamma(x: Tensor) -> Tensor:
    """ψ(x) of every entry, as ``torch.digamma``: to float32 rounding where there are many float32 numbers on a CPU.

    ψ(x) = ψ(x + 4) − 1/x − 1/(x + 1) − 1/(x + 2) − 1/(x + 3), and from 4 on the asymptotic series to y⁻⁸, whose next
    term is 1 / (132 y¹⁰) < 1e-8.

    References:
        Abramowitz, Stegun (1964), Handbook of Mathematical Functions, eq. 6.3.6, 6.3.18.
    """
    return _by_vectors(x) if _suits(x) else torch.digamma(x)


def _suits(x: Tensor) -> bool:
    """Whether x is many float32 numbers on a CPU, none of which needs the reflection formula, and no gradient."""
    if x.dtype != torch.float32 or x.device.type != "cpu" or x.numel() < WORTH_IT or x.requires_grad:
        return False
    low, high = torch.stack(torch.aminmax(x)).tolist()
    return low > 0.0 and high < LARGEST


def _by_vectors(x: Tensor) -> Tensor:
    y = x + 4.0
    result = y.log().sub_(_reciprocals(x))
    inverse = y.reciprocal_()
    square = inverse * inverse
    # Horner's scheme of the series in 1 / y².
    series = (square * (-1 / 240)).add_(1 / 252).mul_(square).sub_(1 / 120).mul_(square).add_(1 / 12).mul_(square)
    return result.sub_(series).sub_(inverse, alpha=0.5)


def _reciprocals(x: Tensor) -> Tensor:
    """1/x + 1/(x + 1) + 1/(x + 2) + 1/(x + 3): the outer two are (2x + 3) / t, the inner two (2x + 3) / (t + 2)."""
    t = (x + 3.0).mul_(x)
    numerator = (x * 2.0).add_(3.0)
    outer = numerator / t
    return outer.addcdiv_(numerator, t.add_(2.0))
