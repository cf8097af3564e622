"""Where a move starts, and the states that changed responsibilities lead to."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro.conjugate.dirichlet import Counts
from mixpyro.distributed.sums import placed
from mixpyro.experts.conjugate import ConjugateExperts
from mixpyro.fitting import em
from mixpyro.fitting.em import Snapshot, Statistics
from mixpyro.fitting.known_labels import known_components
from mixpyro.fitting.pieces import of_objects, pieces_of, summed, total_of
from mixpyro.fitting.rows_of_all import of_all
from mixpyro.fitting.table import Table
from mixpyro.gates.per_object import ObjectGate
from mixpyro.mixture import MixtureOfExperts, MixtureState
from mixpyro.numerics import nested

# Takes the responsibilities [K, B] of some objects, which these are and their table, and returns those of C candidates
# [C, K, B].
Change = Callable[[Tensor, slice, Table], Tensor]

# Numbers in the responsibilities of all candidates that are tried together, 128 MiB in float64.
MOST_NUMBERS = 2**24


class Point(NamedTuple):
    """A run where a move starts."""

    bound: float  # nats
    state: MixtureState
    statistics: Statistics
    responsibilities: Tensor  # [K, N], without the rows' weights

    @property
    def n_components(self) -> int:
        """K."""
        return len(self.responsibilities)

    def counts(self, table: Table) -> Tensor:
        """Return the number of objects in each component [K], float64.

        Args:
            table: the rows.
        """
        weighted = table.weighted(self.responsibilities)
        totals = [of_objects(weighted, own).sum(-1, dtype=torch.float64) for own, _ in pieces_of(table)]
        counts: Tensor = total_of(table, totals)
        return counts


def point_at(mixture: MixtureOfExperts, table: Table, state: MixtureState) -> Point:
    """Return a state with what an E-step there finds.

    Args:
        mixture: whose formulas are used.
        table: with columns.
        state: without an axis of runs.
    """
    step = em.e_step(mixture, nested.stack([state]), table, keep=True)
    assert step.responsibilities is not None
    return Point(float(step.evidence[0, 0]), state, nested.select(step.statistics, 0), step.responsibilities[0])


def allows_moves(mixture: MixtureOfExperts) -> bool:
    """Return whether components can be moved: not where each object has a posterior of its own.

    Args:
        mixture: any.
    """
    return mixture.n_components > 1 and not isinstance(mixture.gate, ObjectGate)


def has_sums_by_component(mixture: MixtureOfExperts) -> bool:
    """Return whether sums over rows are all that an update reads, and those of two components can be added.

    Args:
        mixture: any.
    """
    return not em.reads_rows(mixture) and isinstance(mixture.experts, ConjugateExperts)


def are_added(statistics: Statistics) -> bool:
    """Return whether the gate's sums are counts, so that those of two components can be added.

    Args:
        statistics: of a run.
    """
    return isinstance(statistics.gate, Counts)


def can_be_emptied(point: Point, table: Table) -> list[bool]:
    """Return which components may lose their rows: those that no row is known to be of.

    Args:
        point: where the move starts.
        table: the rows.
    """
    known = torch.tensor([known_components(table.labels, point.n_components)], dtype=torch.int64, device="cpu")
    return [not one for one in of_all(table, known).any(0).tolist()]


def snapshots(
    mixture: MixtureOfExperts, table: Table, point: Point, changed: Change, n_candidates: int
) -> list[Snapshot]:
    """Return the starts of runs from changed responsibilities, in one pass over the rows.

    Args:
        mixture: whose formulas are used.
        table: with columns.
        point: where the move starts.
        changed: gives the responsibilities of all candidates.
        n_candidates: C.
    """
    kept: list[Tensor] | None = [] if em.reads_rows(mixture) else None
    states = nested.stack([point.state] * n_candidates)

    def found(part: Table, rows: slice) -> Statistics:
        r = placed(changed(point.responsibilities[:, rows], rows, part))
        if kept is not None:
            kept.append(r)
        return em.statistics_of(mixture, part, part.weighted(r), states)

    total = summed(table, n_candidates * point.n_components, found)
    whole = None if kept is None else torch.cat(kept, dim=-1)
    return [
        Snapshot(point.state, nested.select(total, number), None if whole is None else whole[number])
        for number in range(n_candidates)
    ]
