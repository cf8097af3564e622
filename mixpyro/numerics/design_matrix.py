"""Design matrices with an intercept, as they are and as Newton's method wants them."""

import torch
from torch import Tensor

from mixpyro.shapes import Design, Inputs


def with_intercept(x: Inputs) -> Design:
    """u = [1, x] [N, 1 + D]."""
    return torch.cat([x.new_ones(len(x), 1), x], dim=1)


def standardised(x: Inputs) -> tuple[Design, Tensor]:
    """[1, (x − mean) / spread], and the T [1 + D, 1 + D] with which it is [1, x] T, both float64.

    A year, a time stamp or a column in millionths makes [1, x] all but singular; the same model in these columns is
    well conditioned. Coefficients b of [1, x] are T times the coefficients of the standardised columns.
    """
    x = x.double()
    mean = x.mean(0)
    spread = (x - mean).square().mean(0).sqrt()
    spread = torch.where(spread > 1e-14 * mean.abs(), spread, torch.ones_like(spread))
    transform = torch.eye(x.shape[1] + 1, dtype=x.dtype, device=x.device)
    transform[0, 1:] = -mean / spread
    transform.diagonal()[1:] = 1.0 / spread
    return with_intercept((x - mean) / spread), transform
