"""Free coordinates of a nested posterior: every number of its tensors, of symmetric matrices the lower triangle."""

from typing import Any

import torch
from torch import Tensor

# Fields of posteriors that hold symmetric matrices [K, E, E].
SYMMETRIC = {"precision", "scale"}
# Fields that hold an order, which has no coordinates.
ORDERS = {"rank"}


def flattened(value: Any) -> Tensor:  # noqa: ANN401 (a nest of tensors)
    """Return the coordinates of a posterior as one vector.

    Args:
        value: a NamedTuple of tensors, or of such tuples, without leading axes.
    """
    parts = []
    for field, part in zip(value._fields, value, strict=True):
        if field in ORDERS:
            continue
        if not isinstance(part, Tensor):
            parts.append(flattened(part))
        elif _is_symmetric(field, part):
            first, second = torch.tril_indices(part.shape[-1], part.shape[-1], device=part.device)
            parts.append(part[..., first, second].flatten())
        else:
            parts.append(part.flatten())
    return torch.cat(parts)


def restored(coordinates: Tensor, like: Any) -> Any:  # noqa: ANN401 (a nest of tensors)
    """Return the posterior of coordinates, with their gradient; inverse of :func:`flattened`.

    Args:
        coordinates: a vector.
        like: a posterior of the same shapes.
    """
    value, rest = _taken(coordinates, like)
    assert not len(rest)
    return value


def _taken(coordinates: Tensor, like: Any) -> tuple[Any, Tensor]:  # noqa: ANN401
    """Return a posterior, and the coordinates that it leaves."""
    parts = []
    for field, part in zip(like._fields, like, strict=True):
        if field in ORDERS:
            value = part
        elif not isinstance(part, Tensor):
            value, coordinates = _taken(coordinates, part)
        elif _is_symmetric(field, part):
            size = part.shape[-1]
            first, second = torch.tril_indices(size, size, device=part.device)
            number = torch.zeros(size, size, dtype=torch.long, device=part.device)
            number[first, second] = number[second, first] = torch.arange(len(first), device=part.device)
            own, coordinates = coordinates.split([len(part) * len(first), len(coordinates) - len(part) * len(first)])
            value = own.unflatten(0, (len(part), len(first)))[:, number]
        else:
            own, coordinates = coordinates.split([part.numel(), len(coordinates) - part.numel()])
            value = own.reshape(part.shape)
        parts.append(value)
    return type(like)._make(parts), coordinates


def _is_symmetric(field: str, value: Tensor) -> bool:
    """Return whether a field holds a symmetric matrix for each component."""
    return field in SYMMETRIC and value.ndim == 3
