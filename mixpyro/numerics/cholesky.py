"""Triangular factors of positive definite matrices, without a wait for a GPU.

``torch.linalg.cholesky``, ``inv`` and ``solve`` read on the spot whether they have failed. Here what fails is NaN, as
is the bound then, where it is seen.
"""

import torch
from torch import Tensor


def cholesky(matrices: Tensor) -> Tensor:
    """Lower Cholesky factors [..., E, E]; NaN for a matrix that is not positive definite."""
    factors, info = torch.linalg.cholesky_ex(matrices)
    return factors.masked_fill((info != 0)[..., None, None], torch.nan)


def inverted(factors: Tensor) -> Tensor:
    """Inverses of lower triangular matrices [..., E, E]."""
    identity = torch.eye(factors.shape[-1], dtype=factors.dtype, device=factors.device)
    return torch.linalg.solve_triangular(factors, identity, upper=False)


def log_determinants(factors: Tensor) -> Tensor:
    """log |L L'| [...] of lower triangular L [..., E, E]."""
    return 2.0 * factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
