"""Attributes that are plain tensors to a caller: what is written into them is assigned.

A hyper model keeps its numbers in a gate, in the gate's dtype and form. The tensor that it hands out as ``mu`` or ``m``
is a copy, and what a caller writes into the copy would be lost. So each model remembers what it has handed out, and
assigns what has changed before it uses or returns anything.
"""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from mixpyro.arguments import outside_contexts

# Numbers of a tensor whose bytes are compared.
SMALL = 1024

Value = TypeVar("Value")
Assign = TypeVar("Assign", bound=Callable[[Any, Any], None])


class HandedOut(NamedTuple):
    """A tensor that a caller has of an attribute."""

    tensor: Tensor
    before: Tensor  # a copy of it as it was handed out
    address: int  # of its memory then
    memory: np.ndarray | None  # the same memory where it is small, and on the CPU
    content: bytes  # of this memory then

    @classmethod
    def of(cls, tensor: Tensor) -> "HandedOut":
        """Remember a tensor as it is.

        Args:
            tensor: what the caller gets.
        """
        before = tensor.detach().clone()
        memory = tensor.detach().numpy() if tensor.is_cpu and tensor.numel() <= SMALL else None
        return cls(tensor, before, tensor.data_ptr(), memory, b"" if memory is None else memory.tobytes())

    def is_changed(self) -> bool:
        """Return whether the caller has written into the tensor, by whatever way.

        The version of a tensor would not show what is written through ``.data`` or NumPy.
        """
        # Bytes first: to compare a few takes a tenth of the time that a function of torch takes.
        if self.tensor.data_ptr() == self.address and self.memory is not None and self.memory.tobytes() == self.content:
            return False
        return not equal(self.tensor, self.before)

    def showing(self, value: Tensor) -> "HandedOut":
        """Let the tensor have a value, and no longer memory that it may share with a tensor of the caller's.

        Args:
            value: what the model has.
        """
        if not equal(self.tensor, value):
            self.tensor.data = value
        return HandedOut.of(self.tensor)


class PlainAttributes:
    """Base of a class with attributes that are :class:`PlainAttribute`.

    Attributes:
        handed_out: what callers have of the attributes, by name; only tensors in which a change shall take effect.
    """

    def __init__(self) -> None:
        self.handed_out: dict[str, HandedOut] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy of the object has, or a file: no caller has a tensor of these."""
        self.take_over()
        return {**vars(self), "handed_out": {}}

    def take_over(self) -> None:
        """Assign what callers have written into tensors that were handed out.

        Raises:
            ValueError: if it is nothing that may be assigned; it stays where it was written, and is not used.
        """
        for one in self.handed_out.values():
            if one.is_changed():
                break
        else:
            return
        # All of them before the first is assigned: that changes what the others show.
        changed = {name: one.tensor for name, one in self.handed_out.items() if one.is_changed()}
        for name, tensor in changed.items():
            setattr(self, name, tensor)


class PlainAttribute(Generic[Value]):
    """A property whose tensor may be changed in place; every one must have a ``setter``.

    Args:
        read: returns the value that the model has, a tensor of its own or a number.
    """

    assign: Callable[[Any, Any], None]

    def __init__(self, read: Callable[[Any], Value]) -> None:
        self.read, self.__doc__ = read, read.__doc__

    def setter(self, assign: Assign) -> Assign:
        """Take the function that checks and assigns a value, and return it.

        Args:
            assign: as for a property. It reads no attribute of this kind.
        """
        self.assign = assign
        return assign

    def __set_name__(self, owner: type, name: str) -> None:
        """Learn the name."""
        self.name = name

    @outside_contexts
    def __get__(self, model: Any, owner: type | None = None) -> Value:  # noqa: ANN401
        """Return the tensor that callers have of the value; a new one where the model has another value since."""
        if model is None:
            return self  # type: ignore[return-value]
        model.take_over()
        value, known = self.read(model), model.handed_out.get(self.name)
        if not isinstance(value, Tensor):
            return value
        if known is None or not equal(value.to(known.before), known.before):
            known = HandedOut.of(value)
        model.handed_out[self.name] = known = known.showing(value)
        return known.tensor

    @outside_contexts
    def __set__(self, model: Any, value: Any) -> None:  # noqa: ANN401
        """Check and assign a value. A tensor that was handed out is no longer the attribute, unless it is the value."""
        self.assign(model, value)
        own = model.handed_out.pop(self.name, None)
        if own is not None and own.tensor is value:
            model.handed_out[self.name] = own
        for name, one in model.handed_out.items():
            # A change that waits to be assigned stays.
            if one is own or not one.is_changed():
                model.handed_out[name] = one.showing(getattr(type(model), name).read(model))


def equal(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors are equal in dtype, device, shape and values, NaN being equal to NaN.

    Args:
        first: of any shape.
        second: of any shape.
    """
    if first.dtype != second.dtype or first.device != second.device:
        return False
    if torch.equal(first, second):
        return True
    return first.shape == second.shape and bool(((first == second) | (first.isnan() & second.isnan())).all())
