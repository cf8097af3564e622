"""A limit on the memory that a constructor takes for numbers that a file declares."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mixpyro.arguments.signals import pass_on

# Functions whose results have the square of a size, or the product of the sizes of two tensors; and some that have no
# more numbers than their arguments.
SQUARES = (torch.eye, torch.diag, torch.diag_embed, Tensor.diag, Tensor.diag_embed)
OUTER = (torch.kron, torch.outer, torch.einsum, torch.tensordot, torch.cdist, Tensor.outer)
INDEXING = (Tensor.__getitem__, Tensor.__setitem__)


class AllocationLimit(TorchFunctionMode):
    """Refuse functions of PyTorch inside whose result has too many numbers, before they allocate it.

    Args:
        most: numbers in one result.

    Raises:
        ValueError: by a function inside, if its result has more.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Call a function if its result is small enough; arguments are PyTorch's."""
        kwargs = kwargs or {}
        values = (*args, *kwargs.values())
        if function in SQUARES:
            self._refuse(_size_of_square(values))
        elif function not in INDEXING and _most_numbers(function, values, self.most) > self.most:
            self._check(function, args, kwargs)
        return function(*args, **kwargs)

    def _check(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise if the result is too large, which a call without any memory finds, or an argument is, as a view."""
        self._refuse(max((one.numel() for one in args if isinstance(one, Tensor)), default=0))
        own = {name: _without_memory(value) for name, value in kwargs.items() if name != "device"}
        try:
            with torch.device("meta"):
                result = function(*map(_without_memory, args), **own)
        # Functions that read values have small results, or fail without memory as they do with it.
        except Exception as error:
            pass_on(error)
            return
        results = result if isinstance(result, tuple | list) else [result]
        self._refuse(max((one.numel() for one in results if isinstance(one, Tensor)), default=0))

    def _refuse(self, n_numbers: int) -> None:
        """Raise if these are too many numbers."""
        if n_numbers > self.most:
            raise ValueError(f"it declares {n_numbers} numbers where the file has few")


def _most_numbers(function: Callable[..., Any], values: Sequence[Any], enough: int) -> int:
    """Return a number that the result of a function has no more numbers than, or one that is too large."""
    if values and isinstance(values[0], list | tuple) and all(isinstance(one, Tensor) for one in values[0]):
        # Tensors that are joined.
        return sum(one.numel() for one in values[0])
    size = math.prod(_sizes(values))
    shapes = [one.shape[::-1] for one in values if isinstance(one, Tensor)]
    if size <= enough or len(shapes) < 2 or function in OUTER:
        return size
    # Of elementwise functions, and of products of matrices.
    return math.prod(max(1, *sizes) for sizes in itertools.zip_longest(*shapes, fillvalue=1))


def _size_of_square(values: Sequence[Any]) -> int:
    """Return how many numbers a matrix of a size, or of a diagonal, has at most."""
    if isinstance(values[0], Tensor):
        return values[0].numel() * (values[0].shape[-1] if values[0].ndim else 1)
    return max((one for one in values if type(one) is int), default=1) ** 2


def _sizes(values: Sequence[Any]) -> Iterator[int]:
    """Yield the numbers of tensors among arguments, and the integers, which may be sizes."""
    for one in values:
        if isinstance(one, Tensor):
            yield max(1, one.numel())
        elif type(one) is int:
            yield max(1, abs(one))
        elif isinstance(one, list | tuple):
            yield from _sizes(one)


def _without_memory(value: Any) -> Any:  # noqa: ANN401
    """Return a tensor of the same form without memory, in lists too; any other value as it is."""
    if isinstance(value, Tensor):
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    return type(value)(map(_without_memory, value)) if type(value) in (list, tuple) else value
