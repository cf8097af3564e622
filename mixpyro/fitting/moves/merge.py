"""Merge two components: one takes the rows of both, the other is left without."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.fitting.em import Snapshot
from mixpyro.fitting.moves.points import Point, are_added, can_be_emptied, has_sums_by_component, snapshots
from mixpyro.fitting.pieces import of_objects, pieces_of, total_of
from mixpyro.fitting.table import Table
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics import nested

# The component that takes the rows, and the one that loses them.
Pair = tuple[int, int]


def merges(mixture: MixtureOfExperts, table: Table, point: Point, pairs: Sequence[Pair]) -> list[Snapshot]:
    """Return the starts of runs after each of several merges.

    Where sums over the rows are all that the updates read, the sums of a merge are those of its two components, added:
    no pass over the rows. The E-step that follows has the bound of the merge, at least that of the merged
    responsibilities.

    Args:
        mixture: whose formulas are used.
        table: with columns.
        point: where the move starts.
        pairs: which component takes the rows of which.

    References:
        Hughes, Sudderth (2013), Memoized online variational inference for Dirichlet process mixture models,
        section 3.
    """
    if has_sums_by_component(mixture) and are_added(point.statistics):
        return [
            Snapshot(point.state, nested.apply(lambda sums, pair=pair: _merged(sums, pair), point.statistics))
            for pair in pairs
        ]

    def changed(r: Tensor, rows: slice, part: Table) -> Tensor:
        return torch.stack([_merged(r, pair) for pair in pairs])

    return snapshots(mixture, table, point, changed, len(pairs))


def pairs_by_overlap(mixture: MixtureOfExperts, table: Table, point: Point, most: int) -> list[Pair]:
    """Return the pairs of components to merge, those that share most rows first.

    Args:
        mixture: whose components with unlike priors are tried in both orders.
        table: the rows.
        point: where the move starts.
        most: number of pairs to return.
    """
    similarity, free = overlaps(table, point), can_be_emptied(point, table)
    used = (point.counts(table) >= 1e-6).tolist()
    kinds = list(zip(mixture.gate.prior_kinds, mixture.experts.prior_kinds, strict=True))
    numbers = range(point.n_components)
    pairs = [
        (keeps, loses)
        for keeps in numbers
        for loses in numbers
        if keeps != loses and free[loses] and used[keeps] and used[loses]
        # Of two orders of like components one is enough.
        if keeps < loses or not free[keeps] or kinds[keeps] != kinds[loses]
    ]
    return sorted(pairs, key=lambda pair: -float(similarity[pair]))[:most]


def overlaps(table: Table, point: Point) -> Float[Tensor, "K K"]:
    """Return the cosines between the responsibilities of components; Ueda et al. (2000), SMEM, eq. 3.1.

    Args:
        table: the rows.
        point: where the move starts.
    """
    r = point.responsibilities.double()
    weighted = table.weighted(r)
    products: Tensor = total_of(
        table, [of_objects(weighted, own) @ of_objects(r, own).mT for own, _ in pieces_of(table)]
    )
    lengths = products.diagonal().sqrt().clamp_min(torch.finfo(r.dtype).tiny)
    return (products / lengths / lengths.unsqueeze(-1)).cpu()


def _merged(values: Tensor, pair: Pair) -> Tensor:
    """Return values [K, ...] with those of the second component added to those of the first."""
    keeps, loses = pair
    merged = values.clone()
    merged[keeps] += values[loses]
    merged[loses] = 0.0
    return merged
