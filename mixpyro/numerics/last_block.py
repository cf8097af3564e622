"""What was computed of the last block of rows, for the next formula of the same E-step."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


class LastBlock:
    """Keep one result with the very tensors that it is of, none of which may be changed in place. Copies are empty."""

    def __init__(self) -> None:
        self._of: tuple[Tensor, ...] = ()
        self._result: Any = None

    def of(self, tensors: tuple[Tensor, ...], compute: Callable[[], Any], *, once: bool = True) -> Any:  # noqa: ANN401
        """Return the result of tensors, the last one if they are the same objects.

        Args:
            tensors: all that the result depends on.
            compute: returns the result.
            once: whether a result that is asked for again is forgotten then.
        """
        if len(tensors) == len(self._of) and all(one is own for one, own in zip(tensors, self._of, strict=True)):
            result = self._result
            if once:
                self._of, self._result = (), None
            return result
        result = compute()
        self._of, self._result = tensors, result
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> "LastBlock":
        """Return an empty one."""
        return LastBlock()

    def __reduce__(self) -> tuple[type["LastBlock"], tuple[()]]:
        """Say that it is made anew from a file."""
        return LastBlock, ()
