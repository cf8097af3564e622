"""Tensors that differ in one respect from one that would be right."""

import functools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

Odd = Callable[[Tensor], Any]
DTYPES = (
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
    torch.bool,
    torch.uint8,
    torch.int32,
    torch.int64,
    torch.float8_e4m3fn,
)
MAGNITUDES = (1e-300, 1e-100, 1e-30, 1e-8, 1e8, 1e30, 1e100, 1e300, -1.0)


class TensorOfAnotherClass(Tensor):
    """A tensor of a subclass that does nothing of its own."""


def _set(tensor: Tensor, value: float, *, column: bool = False) -> Tensor:
    """Return a copy with a value in its first entry, or in its first column."""
    copied = tensor.detach().clone()
    if copied.numel() and copied.dtype != torch.bool:
        where = copied[..., 0] if column and copied.ndim else copied.view(-1)[:1]
        where.fill_(value if copied.is_floating_point() else int(abs(value)) if abs(value) < 9 else 1)
    return copied


def _duplicated(tensor: Tensor) -> Tensor:
    """Return the first column in place of every column."""
    return tensor[..., :1].repeat_interleave(tensor.shape[-1], -1) if tensor.ndim and tensor.shape[-1] else tensor


def _strided(tensor: Tensor) -> Tensor:
    """Return the same values, every second one of a longer tensor."""
    return tensor.repeat_interleave(2, 0)[::2] if tensor.ndim else tensor


def _transposed(tensor: Tensor) -> Tensor:
    """Return the same values with the strides of a transposed tensor."""
    return tensor.mT.contiguous().mT if tensor.ndim > 1 else tensor


def _negated(tensor: Tensor) -> Tensor:
    """Return the same values as a view that negates what is stored."""
    if not tensor.is_floating_point():
        return tensor
    return torch.complex(torch.zeros_like(tensor.detach()), -tensor.detach()).conj().imag


def _inference(tensor: Tensor) -> Tensor:
    """Return a copy that was made in inference mode."""
    with torch.inference_mode():
        return tensor.detach().clone()


def _quantised(tensor: Tensor) -> Tensor:
    """Return eight bits a value."""
    return torch.quantize_per_tensor(tensor.detach().float(), 0.1, 0, torch.qint8)


def _nested(tensor: Tensor) -> Tensor:
    """Return a nested tensor of the rows, of unequal lengths where there are columns."""
    rows = [row.reshape(-1)[: 1 + i % 2] for i, row in enumerate(tensor.detach())] if tensor.ndim else [tensor[None]]
    return torch.nested.as_nested_tensor(rows or [torch.zeros(1)], layout=torch.jagged)


def _frame(tensor: Tensor) -> Any:
    """Return a frame of one column a column."""
    values = tensor.detach().numpy()
    return pd.DataFrame(values) if values.ndim == 2 else pd.Series(values.reshape(-1))


SHAPES: dict[str, Odd] = {
    "one row less": lambda t: t[:-1],
    "one row more": lambda t: torch.cat([t, t[:1]]),
    "one row": lambda t: t[:1],
    "no row": lambda t: t[:0],
    "no column": lambda t: t[..., :0],
    "one column more": lambda t: torch.cat([t, t[..., :1]], -1),
    "an axis before": lambda t: t.unsqueeze(0),
    "an axis behind": lambda t: t.unsqueeze(-1),
    "transposed": lambda t: t.mT,
    "flattened": lambda t: t.flatten(),
    "a scalar": lambda t: t.sum(),
    "four axes": lambda t: t[None, None, None],
}
LAYOUTS: dict[str, Odd] = {
    "expanded": lambda t: t[:1].expand(t.shape),
    "strided": _strided,
    "strides of a transposed one": _transposed,
    "a negated view": _negated,
    "sparse": lambda t: t.to_sparse(),
    "compressed sparse": lambda t: t.to_sparse_csr(),
    "nested": _nested,
    "without storage": lambda t: t.to("meta"),
    "quantised": _quantised,
    "a parameter": lambda t: nn.Parameter(t.clone()),
    "of a subclass": lambda t: t.clone().as_subclass(TensorOfAnotherClass),
    "with a gradient": lambda t: t.clone().requires_grad_(),
    "with a graph": lambda t: t.clone().requires_grad_() * 1.0,
    "made in inference mode": _inference,
    "an array": lambda t: t.detach().numpy(),
    "an array of objects": lambda t: t.detach().numpy().astype(object),
    "a list": lambda t: t.tolist(),
    "a frame": _frame,
    "a masked array": lambda t: np.ma.masked_invalid(t.detach().numpy()),
}
VALUES: dict[str, Odd] = {
    "one NaN": lambda t: _set(t, float("nan")),
    "one infinity": lambda t: _set(t, float("inf")),
    "one minus infinity": lambda t: _set(t, float("-inf")),
    "NaN in a column": lambda t: _set(t, float("nan"), column=True),
    "one 1e300": lambda t: _set(t, 1e300),
    "one 1e20": lambda t: _set(t, 1e20),
    "one -1": lambda t: _set(t, -1.0),
    "one denormal": lambda t: _set(t, 1e-310),
    "a constant column": lambda t: _set(t, 1.0, column=True),
    "a huge column": lambda t: _set(t, 1e150, column=True),
    "zeros": torch.zeros_like,
    "ones": torch.ones_like,
    "duplicated columns": _duplicated,
    "all rows alike": lambda t: t[:1].expand(t.shape).clone(),
    "far from zero": lambda t: t + 1e9,
}

KINDS: dict[str, Odd] = {
    **{f"{dtype}": functools.partial(Tensor.to, dtype=dtype) for dtype in DTYPES},
    **{f"times {factor:g}": functools.partial(torch.mul, other=factor) for factor in MAGNITUDES},
}

# Of grids alone, so that the random calls of a seed stay what they are.
FOUR_BITS: torch.dtype = vars(torch)["int4"]
FURTHER_DTYPES = ("uint16", "uint32", "uint64", "int8", "float8_e5m2", "float8_e8m0fnu", "complex32")
FURTHER: dict[str, Odd] = {
    **{f"{name}": functools.partial(Tensor.to, dtype=getattr(torch, name)) for name in FURTHER_DTYPES},
    "bits": lambda t: t.detach().clone().view(torch.uint8).view(torch.bits8),
    "integers of four bits": lambda t: t.to(torch.uint8).view(FOUR_BITS),
    "conjugated": lambda t: t.detach().to(torch.complex128).conj(),
    "a list of tensors": lambda t: list(t.detach()),
    "a list of tensors without storage": lambda t: list(t.to("meta")),
    "an array of strings": lambda t: t.detach().numpy().astype(str),
    "an array of complex numbers": lambda t: t.detach().numpy().astype(complex),
    "an array of durations": lambda t: t.detach().numpy().astype("timedelta64[s]"),
    "an array, big-endian": lambda t: t.detach().numpy().astype(">f8"),
    "a frame of categories": lambda t: pd.DataFrame(t.detach().numpy()).astype("category"),
    "a frame of strings": lambda t: pd.DataFrame(t.detach().numpy()).astype(str),
    "a frame with missing values": lambda t: pd.DataFrame(t.detach().numpy()).convert_dtypes().mask(lambda f: f > 0),
    "a frame with names twice": lambda t: pd.DataFrame(t.detach().numpy(), columns=["a"] * t.shape[1]),
    "a tuple": lambda t: tuple(t.tolist()),
    "of another device": lambda t: torch._subclasses.FakeTensorMode().from_tensor(t.detach()),
    "all NaN": lambda t: torch.full_like(t, torch.nan),
    "all 1e-310": lambda t: torch.full_like(t, 1e-310),
    "all 1e308": lambda t: torch.full_like(t, 1e308),
}


def odd_tensor(tensor: Tensor, rng: random.Random) -> tuple[Any, str]:
    """Return what differs from a tensor in one respect, and in which.

    Args:
        tensor: one that is right.
        rng: draws the respect.
    """
    table = rng.choice([SHAPES, LAYOUTS, VALUES, KINDS])
    for _ in range(5):
        word = rng.choice(list(table))
        try:
            return table[word](tensor), word
        except (RuntimeError, TypeError, IndexError, ValueError):
            continue
    return tensor, "as it was"
