"""Tensors that are numbers in memory, one beside the other."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor, peek_interpreter_stack
from torch.masked import is_masked_tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

PLAIN = (Tensor, nn.Parameter)
# Numbers in a tensor whose storage has fewer bytes: one row that is repeated so often is a mistake, and fills memory.
MOST_REPEATED = 2**27
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
            arithmetic, if it is on the ``meta`` device, where tensors have a shape and no numbers, or if it is one row
            that is repeated by ``expand`` to more than 10⁸ numbers.
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


def stored(name: str, value: np.ndarray) -> np.ndarray:
    """Return an array that is as large in memory as it says.

    Args:
        name: of the argument, for messages.
        value: of any shape and dtype.

    Raises:
        TypeError: if it is a few numbers that are repeated to more than 10⁸, as by ``numpy.broadcast_to``.
    """
    is_repeated = any(size > 1 and not step for size, step in zip(value.shape, value.strides, strict=True))
    if value.size > MOST_REPEATED and is_repeated:
        raise TypeError(
            f"`{name}` must be in memory; got {value.size} numbers that are a few repeated. Pass a row once with its "
            "weight."
        )
    return value


def has_masked_numbers(value: object) -> bool:
    """Return whether a value is a frame or series of pandas whose numbers have a mask beside them, as Float64 has.

    Args:
        value: anything.
    """
    dtypes = getattr(value, "dtypes", None)
    own = [dtypes] if hasattr(dtypes, "kind") else list(dtypes) if isinstance(dtypes, Iterable) else []
    return bool(own) and all(getattr(one, "kind", "O") in "iuf" for one in own)


def is_dense(value: Tensor) -> bool:
    """Return whether the numbers of a tensor can be read.

    Args:
        value: of any shape and dtype.
    """
    # Of the calls here none takes more than 0.1 µs.
    if value.layout is not torch.strided or value.is_meta or value.is_nested or value.dtype not in NUMBERS:
        return False
    if type(value) not in PLAIN and _is_wrapper(value):
        return False
    return not (_is_of_no_transform(value) or _is_repeated(value))


def _is_wrapper(value: Tensor) -> bool:
    """Return whether a tensor of a subclass is not its own storage, such as a fake, masked or uninitialised one."""
    has_own_operations = type(value).__torch_dispatch__ is not Tensor.__torch_dispatch__
    is_around = is_masked_tensor(value) or is_traceable_wrapper_subclass(value)
    return bool(is_around or has_own_operations or nn.parameter.is_lazy(value))


def _is_of_no_transform(value: Tensor) -> bool:
    """Return whether a tensor has left the function that ``torch.func.vmap`` or another transform ran it in."""
    if torch.compiler.is_compiling():  # which cannot follow what is asked below
        return False
    return is_functorch_wrapped_tensor(value) and peek_interpreter_stack() is None


def _is_repeated(value: Tensor) -> bool:
    """Return whether a tensor is a few numbers that are repeated, to more than any program needs."""
    # While PyTorch traces a function, sizes are tensors.
    if torch.jit.is_tracing():  # type: ignore[no-untyped-call, attr-defined]
        return False
    return value.numel() > MOST_REPEATED and value.untyped_storage().nbytes() < value.numel()


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
    if _is_of_no_transform(value):
        return "a tensor that has left its transform of torch.func"
    if value.dtype not in NUMBERS:
        return f"numbers of {value.dtype}"
    return f"a {type(value).__name__}" if _is_wrapper(value) else f"{value.numel()} numbers that are a few repeated"


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
    if not _is_wrapper(value) and not value.is_meta and not _is_of_no_transform(value):
        return "Pass a row once with its weight."
    return "Use a plain tensor on the CPU or on a CUDA device."
