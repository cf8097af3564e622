"""The rows that a fit works on: checked, centred and transposed once."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.experts.base import Experts
from mixpyro.fitting.known_labels import checked_labels
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics import nested
from mixpyro.numerics.blocks import rows_per_e_step, slices
from mixpyro.shapes import GateInputs, Inputs, Outputs


class Table(NamedTuple):
    """Rows of N objects: inputs, outputs, what the gate reads, how much each counts, and its component if known."""

    x: Inputs
    y: Outputs
    gate_x: GateInputs
    weights: Tensor | None  # [N], or None where every row counts once
    columns: Any = ()  # what the experts' formulas read, rows along the last axis; see `with_columns`
    labels: Tensor | None = None  # the known components [N], −1 where one is not known; None where none is

    @property
    def n_objects(self) -> float:
        """N, or the sum of the weights."""
        return float(len(self.x)) if self.weights is None else float(self.weights.sum())

    def with_columns(self, experts: Experts) -> "Table":
        """Return the table with the columns that the experts' formulas read, counted from their origin.

        Args:
            experts: whose ``centre`` has been called.
        """
        return self._replace(columns=experts.columns(self.x, self.y))

    def block(self, rows: slice | Tensor) -> "Table":
        """Return some of the rows.

        Args:
            rows: a slice, or indices [B].
        """
        if isinstance(rows, slice) and (rows.start or 0, rows.stop) == (0, len(self.x)):
            return self
        weights = None if self.weights is None else self.weights[rows]
        columns = nested.apply(lambda column: column[..., rows], self.columns)
        labels = None if self.labels is None else self.labels[rows]
        return Table(self.x[rows], self.y[rows], self.gate_x[rows], weights, columns, labels)

    def blocks(self, width: int) -> Iterator[slice]:
        """Return slices that cover all rows, small enough for an E-step's temporaries to stay in a cache.

        Args:
            width: numbers that each temporary has for a row, runs times components.
        """
        return slices(len(self.x), rows_per_e_step(width, self.x.device))

    def counted_rows(self) -> slice | Tensor:
        """Return the rows whose weight is not zero."""
        if self.weights is None or bool((self.weights > 0).all()):
            return slice(None)
        return self.weights.nonzero().squeeze(-1)

    def weighted(self, values: Tensor) -> Tensor:
        """Return values [..., N] of each row times the row's weight; a row of weight zero counts as zero.

        Args:
            values: [..., N], not finite perhaps where the weight is zero.
        """
        if self.weights is None:
            return values
        return torch.where(self.weights > 0, values * self.weights, 0.0)


def checked_mixture(mixture: object) -> MixtureOfExperts:
    """Return the mixture if it is one, with tensors that can be trained in place of those of inference mode.

    Args:
        mixture: what shall be fitted.

    Raises:
        TypeError: if it is no mixture.
    """
    if not isinstance(mixture, MixtureOfExperts):
        raise TypeError(f"`mixture` must be a MixtureOfExperts; got {type(mixture).__name__}.")
    arguments.make_normal(mixture)
    return mixture


def checked_table(
    mixture: MixtureOfExperts,
    x: object,
    y: object,
    gate_x: object,
    weights: object,
    *,
    observed: object = None,
    mask: object = None,
    new_fit: bool = False,
) -> Table:
    """Return the rows without gradients, if they fit the mixture and each other.

    Args:
        mixture: what shall be fitted.
        x: inputs [N, D].
        y: outputs [N, P] or [N].
        gate_x: what the gate reads [N, G], None for x.
        weights: how much each row counts [N], at least 0; None where every row counts once.
        observed: the components of rows [N]; None where none is known.
        mask: where they are known [N]; None for everywhere.
        new_fit: whether the columns may be others than those of the last fit.

    Raises:
        TypeError: if the mixture is none, or an argument is no floating tensor.
        ValueError: if a shape, dtype, device or value does not fit.
    """
    checked_rows = checked_mixture(mixture).check_data(x, y, gate_x, new_fit=new_fit)
    x, y, gate_x = (part.detach() for part in checked_rows)
    labels = checked_labels(observed, mask, n_components=mixture.n_components, like=x)
    if weights is None:
        return Table(x, y, gate_x, None, labels=labels)
    if not mixture.gate.takes_row_weights:
        kind = type(mixture.gate).__name__
        raise ValueError(f"`weights` must be None for a {kind}, whose objects have a posterior each; got a tensor.")
    checked = arguments.finite("weights", arguments.tensor("weights", weights, (len(x),))).detach()
    if not bool((checked >= 0).all() and checked.sum() > 0):
        raise ValueError(f"`weights` must be at least 0, and not all 0; got values from {float(checked.min()):.6g}.")
    return Table(x, y, gate_x, arguments.same_device("weights", checked, x.device).to(x.dtype), labels=labels)
