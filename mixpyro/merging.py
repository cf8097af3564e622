"""Several gates or banks of experts as one: what each would do alone, in one call."""

import copy
from collections.abc import Callable, Mapping, Sequence
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


def twin(module: Part) -> Part:
    """A copy with state of its own, of a module whose state is buffers; all the rest is shared.

    ``copy.deepcopy`` goes through every hook and setting, which for small data takes longer than an iteration.
    """
    copied, buffers, parts = copy.copy(module), module._buffers.items(), module._modules.items()
    copied.__dict__["_buffers"] = {name: None if buffer is None else buffer.clone() for name, buffer in buffers}
    copied.__dict__["_modules"] = {name: None if part is None else twin(part) for name, part in parts}
    return copied


def hand_back(whole: nn.Module, buffers: Sequence[str], n_parts: int, parts: Mapping[int, nn.Module]) -> None:
    """Give each of ``parts``, by its number of ``n_parts``, what its state in ``whole`` has become."""
    for name in buffers:
        states = _apart(getattr(whole, name), n_parts)
        for number, part in parts.items():
            setattr(part, name, states[number].reshape(getattr(part, name).shape).clone())


def narrow(whole: nn.Module, buffers: Sequence[str], n_parts: int, kept: Sequence[int]) -> None:
    """Leave in ``whole`` the state of some of ``n_parts`` only."""
    for name in buffers:
        state = getattr(whole, name)
        setattr(whole, name, _apart(state, n_parts)[list(kept)].reshape(-1, *state.shape[1:]))
    of_one: Any = whole
    of_one.n_components = of_one.n_components // n_parts * len(kept)


def _apart(state: Tensor, n_parts: int) -> Tensor:
    """An axis of parts in front of all the numbers of each."""
    return state.reshape(n_parts, -1)


def joined(statistics: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Statistics of all parts, one after the other along the components."""
    return statistics[0]._make(torch.cat(values) for values in zip(*statistics, strict=True))  # type: ignore[attr-defined]


def split(statistics: tuple[Tensor, ...], n_parts: int) -> list[tuple[Tensor, ...]]:
    """Those of each of ``n_parts``."""
    parts = zip(*(values.unflatten(0, (n_parts, -1)) for values in statistics), strict=True)
    return [statistics._make(values) for values in parts]  # type: ignore[attr-defined]
