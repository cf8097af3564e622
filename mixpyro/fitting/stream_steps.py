"""What a stream needs of a batch: sums over its rows, and steps of estimates with them."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from mixpyro.experts.banks import Banks
from mixpyro.experts.base import Experts
from mixpyro.fitting.em import Statistics, statistics_of, takes_steps
from mixpyro.fitting.known_labels import joint_of
from mixpyro.fitting.pieces import summed
from mixpyro.fitting.rows_of_all import counted_rows
from mixpyro.fitting.table import Table
from mixpyro.gates.per_object import ObjectGate
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics import nested
from mixpyro.numerics.far_rows import normalised_joint
from mixpyro.part import Part
from mixpyro.pyro_internals.parameter_store import has_parameters
from mixpyro.shapes import Value


class BatchSums(NamedTuple):
    """What an E-step on a batch finds."""

    statistics: Statistics  # with a leading axis of one run
    responsibilities: Tensor | None  # [K, N] times the weights, where a part reads rows
    log_evidence: Tensor  # [N] in nats


class Pace(NamedTuple):
    """How far a step on a batch goes."""

    n_objects: float  # B, of the batch
    total: float  # N, of which the posteriors shall speak
    size: float  # of the step, in (0, 1]
    is_first: bool  # whether estimates stay, for the first batch has been fitted

    @property
    def least(self) -> float:
        """Weight of a component in averages, as of N objects, that is one of the objects that were averaged."""
        return self.total * self.size / self.n_objects

    def per_object(self, sums: Value) -> Value:
        """Return sums over the batch divided by B, whose reciprocal may be infinite.

        Args:
            sums: a nested value of tensors.
        """
        return nested.apply(lambda one: one / self.n_objects, sums)


def with_columns(table: Table, experts: Experts) -> Table:
    """Return a table with the columns that the experts read: those that it has, if any.

    Args:
        table: the batch.
        experts: being fitted to a stream.
    """
    return table.with_columns(experts) if type(table.columns) is tuple and not table.columns else table


def sums_of_batch(mixture: MixtureOfExperts, table: Table) -> BatchSums:
    """Return the sums over a batch under the responsibilities of the mixture as it is.

    Args:
        mixture: being fitted to a stream.
        table: the batch, with columns.
    """
    keeps = reads_rows(mixture)
    kept = table.x.new_empty(mixture.n_components, table.size) if keeps else None
    evidence = table.x.new_empty(table.size)
    state = with_run(mixture.state()) if takes_steps(mixture) else None

    def found(part: Table, rows: slice) -> Statistics:
        log_joint, columns = joint_of(mixture, part.columns, part.labels)
        r, own = normalised_joint(log_joint, part.gate_x, columns, state)
        r, evidence[rows] = part.weighted(r), own.reshape(-1)
        if kept is not None:
            kept[:, rows] = r if state is None else r[0]
        return statistics_of(mixture, part, r.unsqueeze(0) if state is None else r, state)

    return BatchSums(summed(table, mixture.n_components, found), kept, evidence)


def reads_rows(mixture: MixtureOfExperts) -> bool:
    """Return whether a step in a stream reads every row of a batch and its responsibilities.

    Args:
        mixture: any.
    """
    return isinstance(mixture.gate, ObjectGate) or trained_by_gradient(mixture)


def trained_by_gradient(mixture: MixtureOfExperts) -> bool:
    """Return whether a part has parameters that are not estimated from sums.

    Args:
        mixture: any.
    """
    return any(_reads_rows(part) for part in (mixture.gate, mixture.experts))


def _reads_rows(part: Part) -> bool:
    """Return whether a part, or a member of it, has parameters that are not estimated from sums."""
    if isinstance(part, Banks):
        return any(_reads_rows(member) for member in part.members)
    return has_parameters(part) and not part.takes_steps


def meet(mixture: MixtureOfExperts, table: Table) -> None:
    """Let parts that take steps take notice of a batch.

    Args:
        mixture: being fitted to a stream.
        table: the batch.
    """
    with counted_rows(table):
        if mixture.gate.takes_steps:
            mixture.gate.meet(table.gate_x)
        if mixture.experts.takes_steps:
            mixture.experts.meet(table.x, table.y, table.row_weights)


def improve(part: Part, sums: Value, pace: Pace, averaged: Callable[[Value], Value]) -> None:
    """Let the estimates of a part take a step.

    Args:
        part: one that takes steps.
        sums: over the batch, of one run.
        pace: of the step.
        averaged: returns the running average of sums per object, the present ones included.
    """
    state = with_run(part.state())
    batch = nested.select(part.to_average(state, sums), 0)
    batch = nested.apply(lambda own: own.nan_to_num(0.0, 0.0, 0.0) / pace.n_objects, batch)
    averages, batch = (with_run(nested.scale(pace.total, one)) for one in (averaged(batch), batch))
    after = part.streamed(state, batch, averages, size=0.0 if pace.is_first else pace.size, least=pace.least)
    if all(bool(one.isfinite().all()) for one in after.estimates):
        part.hold(nested.select(after, 0))


def with_run(value: nested.Nested) -> nested.Nested:
    """Return a value with an axis of one run.

    Args:
        value: without an axis of runs.
    """
    return nested.apply(lambda own: own.unsqueeze(0), value)
