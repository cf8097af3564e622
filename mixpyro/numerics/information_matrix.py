"""Standard errors and condition of the parameters of an information matrix."""

import torch
from torch import Tensor

# Information along a direction, relative to the largest, once each parameter has unit information. Less is rounding:
# the direction counts as undetermined.
SMALLEST = 1e-12


def standard_errors(information: Tensor, transform: Tensor | None = None) -> Tensor:
    """Compute standard errors of parameters from their information matrix.

    Args:
        information: I, symmetric [R, R]: minus the Hessian of a log likelihood at its maximum.
        transform: T [Q, R], if the parameters of interest are T times those of the information; by default the same.

    Returns:
        The square roots of the diagonal of T I⁻¹ T' [Q], in units of the parameters. A parameter that depends on a
        direction without information has an infinite one.
    """
    values, directions = spectrum(information)
    loadings = directions if transform is None else transform @ directions
    variances = loadings.square() / values.clamp_min(torch.finfo(values.dtype).tiny)
    involved = loadings.abs() > 1e-9 * loadings.abs().amax(1, keepdim=True)
    unknown = values <= SMALLEST * values.amax()
    return torch.where(unknown, torch.where(involved, torch.inf, 0.0), variances).sum(1).sqrt()


def spectrum(information: Tensor) -> tuple[Tensor, Tensor]:
    """Decompose an information matrix into independent directions.

    The matrix is first scaled to unit diagonal, so that the result does not depend on the units of the parameters.

    Args:
        information: symmetric [Q, Q].

    Returns:
        The information along each direction [Q], ascending, and the directions as the columns of [Q, Q] in the
        parameters' own units.
    """
    diagonal = information.diagonal().abs()
    scale = torch.where(diagonal > 0, diagonal.rsqrt(), 1.0).unsqueeze(-1)
    values, vectors = torch.linalg.eigh(scale * information * scale.mT)
    return values, scale * vectors
