"""Functions on nested tuples of tensors."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def apply(function: Callable[..., Tensor], *values: Any) -> Any:  # noqa: ANN401
    """Map a function over the tensors of nests of one structure."""
    first = values[0]
    if isinstance(first, Tensor):
        return function(*values)
    if first is None:
        return None
    parts = [apply(function, *parts) for parts in zip(*values, strict=True)]
    return first._make(parts) if hasattr(first, "_make") else type(first)(parts)


def tensors(value: Any) -> list[Tensor]:  # noqa: ANN401
    """Return the tensors of a nest, in order."""
    if isinstance(value, Tensor):
        return [value]
    return [] if value is None else [tensor for part in value for tensor in tensors(part)]


def add(first: Any, second: Any) -> Any:  # noqa: ANN401
    """Add two nests."""
    return apply(torch.add, first, second)


def scale(factor: float, value: Any) -> Any:  # noqa: ANN401
    """Multiply every tensor by a number."""
    return apply(lambda tensor: factor * tensor, value)


def blend(*weighted: tuple[float, Any]) -> Any:  # noqa: ANN401
    """Return the weighted sum of nests."""
    weights = [weight for weight, _ in weighted]
    return apply(
        lambda *parts: sum(w * part for w, part in zip(weights, parts, strict=True)), *(v for _, v in weighted)
    )


def select(value: Any, index: Any) -> Any:  # noqa: ANN401
    """Index the leading axis of every tensor."""
    return apply(lambda tensor: tensor[index], value)


def stack(values: Sequence[Any]) -> Any:  # noqa: ANN401
    """Stack nests along a new leading axis."""
    return apply(lambda *parts: torch.stack(parts), *values)


def concatenate(values: Sequence[Any]) -> Any:  # noqa: ANN401
    """Join nests along the leading axis."""
    return apply(lambda *parts: torch.cat(parts), *values)


def with_tensors(value: Any, tensors: Sequence[Tensor]) -> Any:  # noqa: ANN401
    """Return a nest of the same structure with other tensors, in the order of :func:`tensors`."""
    remaining = iter(tensors)
    return apply(lambda _: next(remaining), value)
