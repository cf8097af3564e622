"""The noise of a Gaussian expert by maximum likelihood: where it stops before it is zero."""

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.shapes import Outputs


def smallest_scale(y: Outputs, weights: Float[Tensor, " N"]) -> Float[Tensor, " P"]:
    """Where an estimated noise stops: a millionth of the spread of y, or what rounding leaves of its size; float64.

    Args:
        y: [N, P].
        weights: how much each row counts [N].
    """
    share = (weights.double() / weights.sum(dtype=torch.float64)).unsqueeze(-1)
    rounding = 4.0 * torch.finfo(y.dtype).eps
    y = y.double()
    spread = (share * (y - (share * y).sum(0)).square()).sum(0).sqrt()
    size = (share * y.square()).sum(0).sqrt()
    return torch.maximum(1e-6 * spread, rounding * size) + 1e-150
