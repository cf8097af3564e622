"""The rows that a fit works on: checked, centred and transposed once."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.arguments.module_contents import refuse_half_precision
from mixpyro.distributed.blocks import Blocks
from mixpyro.distributed.rows import any_of
from mixpyro.experts.base import Experts
from mixpyro.groups import Groups
from mixpyro.labels import checked_labels, labels_of_groups
from mixpyro.missing import rows_with_outputs
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.blocks import rows_per_e_step, slices
from mixpyro.numerics.segments import Grouped, Segments, selected
from mixpyro.shapes import GateInputs, Inputs, Outputs


class Table(NamedTuple):
    """Rows of N objects: inputs, outputs, what the gate reads, how much each counts, and its component if known.

    An object is a row, or a group of rows where there are groups: these rows are next to each other then. Where y was
    not observed in some rows, those are left out: their objects have fewer rows, or none.
    """

    x: Inputs  # [rows, D]
    y: Outputs  # [rows, P], NaN for single outputs that were not observed
    gate_x: GateInputs  # [N, G]
    weights: Tensor | None  # [N], or None where every object counts once
    columns: Any = ()  # what the experts' formulas read, rows along the last axis; see `with_columns`
    labels: Tensor | None = None  # the known components [N], −1 where one is not known; None where none is
    segments: Segments | None = None  # the rows of each object; None where each has one
    groups: Groups | None = None  # as the caller gave them, of the rows in the caller's order
    misses: bool = False  # whether NaN in y is an output that was not observed
    start: Tensor | None = None  # responsibilities of the caller's own to begin with [N, K]
    blocks_of_all: Blocks | None = None  # blocks of the objects of all processes; None where there is one block alone
    pieces: "tuple[Table, ...]" = ()  # these blocks, each with tensors of its own; see `fitting.pieces`
    total: tuple[float, int, int] | None = None  # sum of weights, objects and rows of all processes; None: these are

    @property
    def size(self) -> int:
        """N, the number of objects: groups where there are any."""
        return len(self.gate_x)

    @property
    def n_objects(self) -> float:
        """N, or the sum of the weights, of all processes."""
        if self.total is not None:
            return self.total[0]
        return float(self.size) if self.weights is None else float(self.weights.sum())

    @property
    def size_of_all(self) -> int:
        """N, of all processes."""
        return self.size if self.total is None else self.total[1]

    @property
    def n_rows_of_all(self) -> int:
        """Number of rows, of all processes."""
        return len(self.x) if self.total is None else self.total[2]

    @property
    def row_weights(self) -> Tensor | None:
        """How much each row counts [rows]; None where each counts once."""
        if self.weights is None or self.segments is None:
            return self.weights
        return self.segments.spread(self.weights)

    def with_columns(self, experts: Experts) -> "Table":
        """Return the table with the columns that the experts' formulas read, counted from their origin.

        Args:
            experts: whose ``centre`` has been called.
        """
        if self.pieces:
            return self._replace(pieces=tuple(piece.with_columns(experts) for piece in self.pieces))
        of_objects = experts.columns_of_incomplete if self.misses else experts.columns_of_objects
        return self._replace(columns=of_objects(self.x, self.y, self.segments))

    def in_float64(self) -> "Table":
        """Return the table in float64, without columns."""
        weights = None if self.weights is None else self.weights.double()
        x, y, gate_x = self.x.double(), self.y.double(), self.gate_x.double()
        return self._replace(x=x, y=y, gate_x=gate_x, weights=weights, columns=())

    def block(self, objects: slice | Tensor) -> "Table":
        """Return some of the objects.

        Args:
            objects: a slice without a step, or indices [B].
        """
        if isinstance(objects, slice) and not objects.start and objects.stop in (None, self.size):
            return self
        rows, segments = (objects, None) if self.segments is None else self.segments.select(objects)
        weights = None if self.weights is None else self.weights[objects]
        columns = selected(self.columns, objects)
        labels = None if self.labels is None else self.labels[objects]
        start = None if self.start is None else self.start[objects]
        x = self.x[rows]
        gate_x = x if self.gate_x is self.x and segments is None else self.gate_x[objects]
        return Table(x, self.y[rows], gate_x, weights, columns, labels, segments, misses=self.misses, start=start)

    def blocks(self, width: int) -> Iterator[slice]:
        """Return slices that cover all objects, small enough for an E-step's temporaries to stay in a cache.

        Args:
            width: numbers that each temporary has for a row, runs times components.
        """
        return self.slices(rows_per_e_step(width, self.x.device))

    def slices(self, n_rows: int) -> Iterator[slice]:
        """Return slices that cover all objects.

        Args:
            n_rows: of the rows of a slice, about.
        """
        # Columns of groups have no rows, however long the groups are.
        are_of_rows = type(self.columns) is tuple or isinstance(self.columns, Grouped)
        if self.segments is None or not are_of_rows:
            return slices(self.size, n_rows)
        return self.segments.blocks(n_rows)

    def observed(self) -> "Table":
        """Return the objects whose weight is not zero; where y is missing in the others, as if these were not there."""
        counted = self.block(self.counted())
        if not self.misses or counted is self:
            return counted
        weights, segments, columns = counted.weights, counted.segments, counted.columns
        if weights is not None and bool((weights == 1.0).all()):
            weights = None
        if segments is not None and self.groups is None and bool((segments.sizes == 1).all()):
            segments, columns = None, columns.columns if isinstance(columns, Grouped) else columns
        return counted._replace(weights=weights, segments=segments, columns=columns)

    def counted(self) -> slice | Tensor:
        """Return the objects whose weight is not zero."""
        if self.weights is None or bool((self.weights > 0).all()):
            return slice(None)
        return self.weights.nonzero().squeeze(-1)

    def weighted(self, values: Tensor) -> Tensor:
        """Return values [..., N] of each object times its weight; an object of weight zero counts as zero.

        Args:
            values: [..., N], not finite perhaps where the weight is zero.
        """
        if self.weights is None:
            return values
        return torch.where(self.weights > 0, values * self.weights, 0.0)

    def of_rows(self, values: Tensor) -> Tensor:
        """Return for each row what its object has [..., rows].

        Args:
            values: [..., N].
        """
        return values if self.segments is None else self.segments.spread(values)


def checked_mixture(mixture: object) -> MixtureOfExperts:
    """Return the mixture if it is one, with tensors that can be trained in place of those of inference mode.

    Args:
        mixture: what shall be fitted.

    Raises:
        TypeError: if it is no mixture, or one in half precision.
    """
    if not isinstance(mixture, MixtureOfExperts):
        raise TypeError(f"`mixture` must be a MixtureOfExperts; got {type(mixture).__name__}.")
    refuse_half_precision("mixture", mixture)
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
    groups: object = None,
    missing: object = None,
    new_fit: bool = False,
) -> Table:
    """Return the rows without gradients, if they fit the mixture and each other.

    Args:
        mixture: what shall be fitted.
        x: inputs [N, D].
        y: outputs [N, P] or [N].
        gate_x: what the gate reads [N, G], None for x.
        weights: how much each row counts [N], at least 0; None where every row counts once. Those of a group are equal.
        observed: the components of rows [N]; None where none is known.
        mask: where they are known [N]; None for everywhere.
        groups: an id of the group of each row [N]; None where every row is an object.
        missing: "ignore" where NaN in y was not observed, else "error"; None for what the last fit had.
        new_fit: whether the columns may be others than those of the last fit.

    Raises:
        TypeError: if the mixture is none, or an argument is no floating tensor.
        ValueError: if a shape, dtype, device or value does not fit.
    """
    misses = checked_mixture(mixture).takes_missing(missing, new_fit=new_fit)
    checked_rows = mixture.check_data(x, y, gate_x, new_fit=new_fit, missing=misses)
    x, y = (part.detach() for part in checked_rows[:2])
    gate_x = x if checked_rows[2] is checked_rows[0] else checked_rows[2].detach()
    grouped = mixture.checked_groups(groups, x, new_fit=new_fit)
    labels = checked_labels(observed, mask, n_components=mixture.n_components, like=x)
    own_weights = None if weights is None else _checked_weights(mixture, weights, x)
    if not any_of(own_weights is None or bool((own_weights > 0).any())):
        raise ValueError("`weights` must be at least 0, and not all 0; got zeros alone.")
    if grouped is None:
        return _of_seen(Table(x, y, gate_x, own_weights, labels=labels, misses=misses), mixture)
    gate_x = mixture.gate.inputs_of_groups(gate_x, grouped)
    labels = None if labels is None else labels_of_groups(labels, grouped)
    own_weights = None if own_weights is None else grouped.shared("weights", own_weights)
    segments = None if grouped.are_rows and not mixture.experts.reads_groups else grouped.segments
    x, y = grouped.sorted(x), grouped.sorted(y)
    return _of_seen(
        Table(x, y, gate_x, own_weights, labels=labels, segments=segments, groups=grouped, misses=misses), mixture
    )


def _of_seen(table: Table, mixture: MixtureOfExperts) -> Table:
    """Return the table without the rows of which no output was observed.

    An object that has no other rows says nothing, and counts as nothing, unless its component is known.
    """
    if not table.misses:
        return table
    x, y, segments, seen = rows_with_outputs(table.x, table.y, table.segments)
    if seen is None:
        any_of(True)  # As the other processes do, whose rows have none perhaps.
        return table
    counts = seen if table.labels is None else seen | (table.labels >= 0)
    if not mixture.gate.takes_row_weights and not bool(counts.all()):
        raise ValueError(
            f"`y` must have a value in each object for a {type(mixture.gate).__name__}, whose objects have a posterior "
            f"each; got {int((~counts).sum())} without any. Leave these out: their posterior is the prior."
        )
    weights = table.x.new_ones(table.size) if table.weights is None else table.weights
    weights = torch.where(counts, weights, 0.0)
    if not any_of(bool(weights.any())):
        raise ValueError("`y` must have a value in a row whose weight is not 0; got NaN in all of them.")
    return table._replace(x=x, y=y, segments=segments, weights=weights)


def _checked_weights(mixture: MixtureOfExperts, weights: object, x: Tensor) -> Tensor:
    """Return weights of rows [N] in their dtype, if they fit."""
    if not mixture.gate.takes_row_weights:
        kind = type(mixture.gate).__name__
        raise ValueError(f"`weights` must be None for a {kind}, whose objects have a posterior each; got a tensor.")
    checked = arguments.finite("weights", arguments.tensor("weights", weights, (len(x),))).detach()
    own = arguments.same_device("weights", checked, x.device).to(x.dtype)
    if not bool((own >= 0).all()):
        raise ValueError(f"`weights` must be at least 0, and not all 0; got values from {float(checked.min()):.6g}.")
    if not bool(own.sum().isfinite()):
        raise ValueError(f"`weights` must have a finite sum in {x.dtype}; got values to {float(checked.max()):.6g}.")
    return own
