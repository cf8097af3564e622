"""What was computed of the last block of rows, for the next formula of the same E-step."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from mixpyro.arguments import has_derivatives
from mixpyro.numerics import nested


class LastBlock:
    """Keep one result with the very tensors that it is of. Copies are empty.

    A result is computed anew where one of these tensors, or of its own, has been changed in place since. PyTorch does
    not see what NumPy writes into memory that they share. Results with derivatives are not kept, nor those of tensors
    of inference mode, whose changes are not counted.
    """

    def __init__(self) -> None:
        self._kept: tuple[tuple[Tensor, ...], list[int], Any] | None = None

    def of(self, tensors: tuple[Tensor, ...], compute: Callable[[], Any], *, once: bool = True) -> Any:  # noqa: ANN401
        """Return the result of tensors, the last one if they are the same objects with the same values.

        Args:
            tensors: all that the result depends on.
            compute: returns the result, a tensor or a nest of them.
            once: whether a result that is asked for again is forgotten then.
        """
        if has_derivatives(*tensors):
            return compute()
        # Read at once, as another thread may replace it.
        kept = self._kept
        if kept is not None and _are_same(tensors, kept[0]) and kept[1] == _versions((*tensors, kept[2])):
            if once:
                self._kept = None
            return kept[2]
        result = compute()
        counted = not any(one.is_inference() for one in nested.tensors((*tensors, result)))
        self._kept = (tensors, _versions((*tensors, result)), result) if counted else None
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> "LastBlock":
        """Return an empty one."""
        return LastBlock()

    def __reduce__(self) -> tuple[type["LastBlock"], tuple[()]]:
        """Say that it is made anew from a file."""
        return LastBlock, ()


def _are_same(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> bool:
    """Return whether tensors are the same objects."""
    return len(first) == len(second) and all(one is other for one, other in zip(first, second, strict=True))


def _versions(values: tuple[Any, ...]) -> list[int]:
    """Return how often PyTorch has changed each tensor of a nest in place."""
    return [one._version for one in nested.tensors(values)]
