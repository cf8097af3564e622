"""Tensors that are numbers in memory, one beside the other."""

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.masked import is_masked_tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

PLAIN = (Tensor, torch.nn.Parameter)
# Those that PyTorch converts to numbers of another dtype. It can only store the others, such as ``torch.bits8``.
NUMBERS = frozenset(
    getattr(torch, name)
    for name in (
        *("float64", "float32", "float16", "bfloat16", "complex128", "complex64", "complex32", "bool"),
        *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"),
        *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
    )
    if hasattr(torch, name)
)


def dense(name: str, value: Tensor) -> Tensor:
    """Return a tensor whose numbers can be read.

    Args:
        name: of the argument, for messages.
        value: of any shape and dtype. Of a subclass the numbers are taken, without what the subclass adds.

    Raises:
        TypeError: if the tensor is sparse, nested, quantised, masked, a wrapper around others or of a dtype without
            arithmetic, or if it is on the ``meta`` device, where tensors have a shape and no numbers.
    """
    if is_dense(value):
        plain = value if type(value) in PLAIN else value.as_subclass(Tensor)
        # NumPy reads no negative views.
        return plain.resolve_neg() if plain.is_neg() else plain
    raise TypeError(f"`{name}` must be a dense tensor; got {_kind(value)}. {_advice(name, value)}")


def array_of(name: str, value: Tensor) -> np.ndarray:
    """Return the numbers of a tensor as an array, in float32 where NumPy does not have their dtype.

    Args:
        name: of the argument, for messages.
        value: of any shape and dtype.

    Raises:
        TypeError: if its numbers cannot be read.
    """
    plain = dense(name, value).detach().cpu().resolve_conj()
    if plain.dtype == torch.complex32:
        plain = plain.to(torch.complex64)
    elif plain.is_floating_point() and plain.dtype not in (torch.float64, torch.float32, torch.float16):
        plain = plain.float()
    return plain.numpy()


def is_dense(value: Tensor) -> bool:
    """Return whether the numbers of a tensor can be read.

    Args:
        value: of any shape and dtype.
    """
    # Of the calls here none takes more than 0.1 µs.
    if value.layout is not torch.strided or value.is_meta or value.is_nested or value.dtype not in NUMBERS:
        return False
    return type(value) in PLAIN or not _is_wrapper(value)


def _is_wrapper(value: Tensor) -> bool:
    """Return whether a tensor of a subclass is not its own storage."""
    return isinstance(value, FakeTensor) or bool(is_masked_tensor(value) or is_traceable_wrapper_subclass(value))


def _kind(value: Tensor) -> str:
    """Return in words what a tensor is that is not dense."""
    if value.is_nested:
        return "a nested tensor"
    if value.layout is not torch.strided:
        return f"layout {value.layout}"
    if value.is_meta:
        return "a tensor on the meta device, which has no values"
    if value.is_quantized:
        return "a quantised tensor"
    return f"numbers of {value.dtype}" if value.dtype not in NUMBERS else f"a {type(value).__name__}"


def _advice(name: str, value: Tensor) -> str:
    """Return how to make a tensor dense."""
    if value.is_nested:
        return f"Use torch.cat({name}.unbind())."
    if value.layout is not torch.strided:
        return f"Use {name}.to_dense()."
    if value.is_quantized:
        return f"Use {name}.dequantize()."
    if value.dtype not in NUMBERS:
        return "Use a dtype that PyTorch computes with."
    return "Use a plain tensor on the CPU or on a CUDA device."
