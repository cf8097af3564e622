"""Which parts of a gate's weights a program visits: those of the plates around the call."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro.numerics import nested
from mixpyro.pyro_internals.plates import batch_shape, data_plates, rows_in
from mixpyro.shapes import Value


class Parts(NamedTuple):
    """Parts with weights of their own, in the plates around the call of a gate."""

    numbers: Tensor  # [M], of the parts that the plates draw, flat
    view: tuple[int, ...]  # their axes in the program, of length one at dims without a plate; M in all
    n_plates: int  # leading axes of `batch_shape` that are plates; the rest are parents

    def of(self, value: Value) -> Value:
        """Return the values of the parts [*view, *parents, K].

        Args:
            value: a NamedTuple of tensors [*batch_shape, …].
        """
        if not self.n_plates:
            return value
        return nested.apply(
            lambda all_: all_.flatten(0, self.n_plates - 1)[self.numbers].reshape(
                *self.view, *all_.shape[self.n_plates :]
            ),
            value,
        )


def parts_around(sizes: tuple[int, ...], site: str, device: torch.device) -> Parts:
    """Return the parts that the plates around the call draw.

    Args:
        sizes: the gate's ``batch_shape``; the plates are its leading axes, by dim.
        site: full name of the site of the weights, for messages.
        device: of the numbers.

    Raises:
        ValueError: if the plates have other sizes.
    """
    frames = data_plates()
    full = [int(frame.size if frame.full_size is None else frame.full_size) for frame in frames]
    if len(full) > len(sizes) or full != list(sizes[: len(full)]):
        names = ", ".join(f"{frame.name!r} of {size}" for frame, size in zip(frames, full, strict=True))
        wanted = f"plates of sizes {list(sizes)}" if sizes else "no plate"
        raise ValueError(
            f"{site!r} must be called inside {wanted}; got a call inside {names}. Call the gate before entering a "
            f"plate to share the weights, or give a DirichletGate `batch_shape={tuple(full)}` for weights of each part."
        )
    numbers = torch.zeros((), dtype=torch.long, device=device)
    for frame, size in zip(frames, full, strict=True):
        numbers = numbers.unsqueeze(-1) * size + rows_in(frame).to(device)
    view = tuple(batch_shape(frames)) if frames else ()
    assert math.prod(view) == numbers.numel()
    return Parts(numbers.flatten(), view, len(frames))
