"""Cholesky factors of positive definite matrices that never wait for a GPU.

``torch.linalg.cholesky``, ``inv`` and ``solve`` copy an error code from the GPU to raise on failure. These functions
return NaN instead. The bound is then NaN, too, and is read once an iteration.
"""

import torch
from torch import Tensor


def cholesky(matrices: Tensor) -> Tensor:
    """Factorise symmetric positive definite matrices.

    Args:
        matrices: [..., E, E], of which the lower triangle is read.

    Returns:
        Lower triangular L [..., E, E] with L L' the matrix; all NaN for a matrix that is not positive definite.
    """
    factors, info = torch.linalg.cholesky_ex(matrices)
    return factors.masked_fill((info != 0)[..., None, None], torch.nan)


def inverted(factors: Tensor) -> Tensor:
    """Invert lower triangular matrices.

    Args:
        factors: L [..., E, E], with no zero on the diagonal.

    Returns:
        L⁻¹ [..., E, E], lower triangular.
    """
    identity = torch.eye(factors.shape[-1], dtype=factors.dtype, device=factors.device)
    return torch.linalg.solve_triangular(factors, identity, upper=False)


def log_determinants(factors: Tensor) -> Tensor:
    """Compute log determinants of matrices from their Cholesky factors.

    Args:
        factors: lower triangular L [..., E, E], positive on the diagonal.

    Returns:
        log |L L'| [...].
    """
    return 2.0 * factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
