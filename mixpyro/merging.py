"""Several gates or banks of experts as one: what each would do alone, in one call."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Part = TypeVar("Part", bound=nn.Module)


def merged(parts: Sequence[Part], buffers: Sequence[str], join: Callable[[list[Tensor]], Tensor]) -> Part:
    """A copy of the first that holds the state of all of them; they keep their own.

    Args:
        parts: at least one, copies of each other but for ``buffers``.
        buffers: names of the state in which they differ.
        join: ``torch.cat`` along the components, or ``torch.stack`` for an axis of parts in front.
    """
    whole: Any = copy.deepcopy(parts[0])
    whole.n_components = len(parts) * whole.n_components
    for name in buffers:
        setattr(whole, name, join([getattr(part, name) for part in parts]))
    return whole


def hand_back(whole: nn.Module, parts: Sequence[nn.Module], buffers: Sequence[str]) -> None:
    """Give each of ``parts`` what its state in ``whole`` has become."""
    for name in buffers:
        states = getattr(whole, name).reshape(len(parts), *getattr(parts[0], name).shape)
        for part, state in zip(parts, states, strict=True):
            setattr(part, name, state.clone())


def joined(statistics: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Statistics of all parts, one after the other along the components."""
    return statistics[0]._make(torch.cat(values) for values in zip(*statistics, strict=True))  # type: ignore[attr-defined]


def split(statistics: tuple[Tensor, ...], n_parts: int) -> list[tuple[Tensor, ...]]:
    """Those of each of ``n_parts``."""
    parts = zip(*(values.unflatten(0, (n_parts, -1)) for values in statistics), strict=True)
    return [statistics._make(values) for values in parts]  # type: ignore[attr-defined]
