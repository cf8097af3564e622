"""Split a component: a free one takes half of its rows."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from mixpyro.fitting import em
from mixpyro.fitting.em import Snapshot
from mixpyro.fitting.gradient.m_steps import GradientMSteps
from mixpyro.fitting.moves.points import Point, can_be_emptied, snapshots
from mixpyro.fitting.pieces import parts
from mixpyro.fitting.rows_of_all import of_this_process, smallest_of_all
from mixpyro.fitting.starts import N_GRADIENT_STEPS
from mixpyro.fitting.table import Table
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics import nested

# Draws of two subsets that each component is split by, and iterations of the two halves by themselves.
DRAWS, PARTIAL_ITERATIONS = 2, 5
# Objects of which a component has fewer if it is free.
FREE = 1.0


class Split(NamedTuple):
    """Which component is split, which takes half of its rows, and which takes those that this one had before."""

    component: int
    into: int
    taker: int


def splits(
    mixture: MixtureOfExperts, table: Table, point: Point, tried: Sequence[Split], generator: Generator
) -> list[Snapshot]:
    """Return the starts of runs after each of several splits.

    Two experts are fitted to disjoint random subsets of the component's rows. A few restricted iterations follow: the
    two share the rows of the component, and all other responsibilities stay as they are.

    Args:
        mixture: whose formulas are used.
        table: with columns.
        point: where the move starts.
        tried: the splits, at least one.
        generator: of the subsets.

    References:
        Ueda, Nakano, Ghahramani, Hinton (2000), SMEM algorithm for mixture models, Neural Computation 12, section 3;
        Hughes, Sudderth (2013), Memoized online variational inference for Dirichlet process mixture models, section 3.
    """
    component, into, taker = torch.tensor([list(one) for one in tried], device="cpu").T.to(table.x.device)
    each = torch.arange(len(tried), device=table.x.device)

    def halves(r: Tensor, first: Tensor) -> Tensor:
        """Return responsibilities [C, K, B], given the share [C, B] that the component keeps."""
        split = r.expand(len(tried), *r.shape).clone()
        split[each, taker] += r[into]
        rows = split[each, component]
        split[each, into] = rows * (1.0 - first)
        split[each, component] = rows * first
        return split

    subsets = _subsets(table, point, tried, generator)
    starts = snapshots(mixture, table, point, lambda _, rows, __: subsets[..., rows], len(tried))
    for _ in range(PARTIAL_ITERATIONS):
        first = _shares(mixture, table, starts, tried)

        def changed(r: Tensor, rows: slice, part: Table, first: Tensor = first) -> Tensor:
            return halves(r, first[:, rows])

        starts = snapshots(mixture, table, point, changed, len(tried))
    return starts


def splittable(mixture: MixtureOfExperts, table: Table, point: Point, most: int) -> list[Split]:
    """Return the splits to try, the largest components first: into one free component of every kind of prior.

    Args:
        mixture: whose priors are compared.
        table: the rows.
        point: where the move starts.
        most: number of splits to return.
    """
    counts, may = point.counts(table).tolist(), can_be_emptied(point, table)
    kinds = list(zip(mixture.gate.prior_kinds, mixture.experts.prior_kinds, strict=True))
    free = {kinds[k]: k for k in reversed(range(point.n_components)) if counts[k] < FREE and may[k]}
    # A half of fewer rows than an expert has unknowns explains nothing that the whole does not.
    size = 2 * _subset_size(table)
    whole = sorted((k for k, count in enumerate(counts) if count >= size), key=counts.__getitem__, reverse=True)
    # Every component has a turn before any has its next.
    return [Split(k, into, k) for into in free.values() for _ in range(DRAWS) for k in whole][:most]


def _subset_size(table: Table) -> int:
    """Return the objects that an expert is fitted to: of one row more than a regression on x has unknowns."""
    n_rows = table.x.shape[1] + table.y.shape[1] + 1
    return math.ceil(n_rows * table.size_of_all / table.n_rows_of_all)


def _subsets(table: Table, point: Point, tried: Sequence[Split], generator: Generator) -> Tensor:
    """Return responsibilities [C, K, N] of two disjoint subsets of each split component's rows, no others."""
    weights = table.weighted(point.responsibilities).double().cpu()
    r = point.responsibilities.new_zeros(len(tried), *point.responsibilities.shape)
    first = 0 if table.blocks_of_all is None else table.blocks_of_all.first
    for number, one in enumerate(tried):
        # The largest of exponential draws divided by weights are a draw without replacement, of any number of rows.
        waits = torch.empty(table.size_of_all, dtype=torch.float64, device="cpu").exponential_(generator=generator)
        own = waits[first : first + weights.shape[1]] / (weights[one.component] + 1e-12)
        chosen = smallest_of_all(table, own, 2 * _subset_size(table))
        rows = chosen[torch.randperm(len(chosen), generator=generator, device="cpu")]
        for place, some in ((one.component, rows[: len(rows) // 2]), (one.into, rows[len(rows) // 2 :])):
            r[number, place, of_this_process(table, some).to(r.device)] = 1.0
    return r


def _shares(mixture: MixtureOfExperts, table: Table, starts: Sequence[Snapshot], tried: Sequence[Split]) -> Tensor:
    """Return the share [C, N] of its rows that each split component keeps, after an update of each start."""
    stacked, by_gradient = nested.stack(list(starts)), GradientMSteps(n_steps=N_GRADIENT_STEPS)
    state = em.update(mixture, stacked.state, stacked, table, by_gradient)
    component, into, _ = torch.tensor([list(one) for one in tried], device="cpu").T.to(table.x.device)
    each, found = torch.arange(len(tried), device=table.x.device), []
    for _, part in parts(table, len(tried) * mixture.n_components):
        joint = mixture.log_joint(part.gate_x, part.columns, state)
        joint = joint.expand(len(tried), mixture.n_components, part.size)
        found.append((joint[each, component] - joint[each, into]).sigmoid().nan_to_num(0.5))
    return torch.cat(found, dim=-1)
