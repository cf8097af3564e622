"""What an information matrix says of the parameters that it belongs to."""

import torch
from torch import Tensor

# Least information along a direction, relative to the most, of which rounding leaves anything: parameters of unit
# diagonal information are compared.
SMALLEST = 1e-12


def standard_errors(information: Tensor, transform: Tensor | None = None) -> Tensor:
    """√ of the diagonal of T I⁻¹ T' [Q], infinite for what a direction without information has a part in.

    Args:
        information: I, symmetric [R, R]: minus the Hessian of a log likelihood at its maximum.
        transform: T [Q, R], where the parameters asked for are T times those of the information; else the same.
    """
    values, directions = spectrum(information)
    back = directions if transform is None else transform @ directions
    share = back.square() / values.clamp_min(torch.finfo(values.dtype).tiny)
    touched = back.abs() > 1e-9 * back.abs().amax(1, keepdim=True)
    unknown = values <= SMALLEST * values.amax()
    return torch.where(unknown, torch.where(touched, torch.inf, 0.0), share).sum(1).sqrt()


def spectrum(information: Tensor) -> tuple[Tensor, Tensor]:
    """Information [Q] along directions, the columns of [Q, Q], that are orthogonal once every diagonal entry is one.

    So that the units of the parameters make no difference.
    """
    diagonal = information.diagonal().abs()
    scale = torch.where(diagonal > 0, diagonal.rsqrt(), 1.0).unsqueeze(-1)
    values, vectors = torch.linalg.eigh(scale * information * scale.mT)
    return values, scale * vectors
