"""What a fit works on."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.mixture import MixtureOfExperts
from mixpyro.shapes import Inputs, Outputs

# Rows worked on together: few enough for a block's temporaries to stay in a cache, many enough to keep the cores busy.
BLOCK_ROWS = 65_536
# What a GPU loses by a block is the time to launch its kernels.
GPU_FACTOR = 32


class Data(NamedTuple):
    """Rows of a table: what the experts see, what they explain, what the gate sees, and how much each row counts."""

    x: Inputs
    y: Outputs
    gate_x: Inputs
    weights: Tensor | None  # [N], or None where every row counts once

    @property
    def n_objects(self) -> float:
        """N, or the sum of the weights."""
        return float(len(self.x)) if self.weights is None else float(self.weights.sum())

    def block(self, rows: slice | Tensor) -> "Data":
        """Some of the rows."""
        weights = None if self.weights is None else self.weights[rows]
        return Data(self.x[rows], self.y[rows], self.gate_x[rows], weights)

    def counted_rows(self) -> slice | Tensor:
        """Those whose weight is not zero."""
        if self.weights is None or bool((self.weights > 0).all()):
            return slice(None)
        return self.weights.nonzero().squeeze(-1)

    def blocks(self, n_rows: int | None = None) -> Iterator[slice]:
        """Slices that cover all rows, ``n_rows`` at a time, or more of them on a GPU."""
        n_rows = BLOCK_ROWS if n_rows is None else n_rows
        if self.x.device.type != "cpu":
            n_rows *= GPU_FACTOR
        return (slice(start, start + n_rows) for start in range(0, len(self.x), n_rows))

    def weighted(self, values: Tensor) -> Tensor:
        """Values [N, …] of each row, times the row's weight."""
        if self.weights is None:
            return values
        weights = self.weights.reshape(-1, *(1 for _ in values.shape[1:]))
        return torch.where(weights > 0, values * weights, 0.0)


def checked_data(mixture: MixtureOfExperts, x: object, y: object, gate_x: object, weights: object) -> Data:
    """Return the data without gradients, if they fit the mixture and each other; see :func:`mixpyro.fit`."""
    x, y, gate_x = (part.detach() for part in mixture.check_data(x, y, gate_x))
    if weights is None:
        return Data(x, y, gate_x, None)
    if not mixture.gate.takes_row_weights:
        kind = type(mixture.gate).__name__
        raise ValueError(f"`weights` must be None for a {kind}, whose objects have a posterior each; got a tensor.")
    checked = arguments.finite("weights", arguments.tensor("weights", weights, (len(x),))).detach()
    if not bool((checked >= 0).all() and checked.sum() > 0):
        raise ValueError(f"`weights` must be at least 0, and not all 0; got values from {float(checked.min()):.6g}.")
    return Data(x, y, gate_x, arguments.same_device("weights", checked, x.device).to(x.dtype))
