"""Merge two components and split a third at once: as many components as before, elsewhere."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from mixpyro.fitting import em
from mixpyro.fitting.em import Snapshot
from mixpyro.fitting.gradient.m_steps import GradientMSteps
from mixpyro.fitting.moves.merge import pairs_by_overlap
from mixpyro.fitting.moves.points import Point, can_be_emptied, snapshots
from mixpyro.fitting.moves.trials import Trials
from mixpyro.fitting.outcomes import Run
from mixpyro.fitting.starts import N_GRADIENT_STEPS
from mixpyro.fitting.table import Table
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics import nested

# Pairs to merge, splits of each component that are tried with each pair, and exchanges in all.
MOST_PAIRS, SPLITS, MOST_EXCHANGES = 6, 2, 24
# Iterations of the split component's two halves by themselves.
PARTIAL_ITERATIONS = 5
# Rounds of exchanges, each from where the one before has ended.
MOST_ROUNDS = 5


class Exchange(NamedTuple):
    """Which component takes the rows of which, and which is split with the one that is free then."""

    keeps: int
    loses: int
    split: int


def exchanged(trials: Trials, run: Run, end: Snapshot, seed: int) -> tuple[Run, Snapshot]:
    """Return the run after exchanges, each of which has raised the bound, and where it has ended.

    The run is as it was if none is better, or Ctrl-C has come.

    Args:
        trials: make the runs.
        run: what has been reached.
        end: where it has ended.
        seed: of the rows that a split begins with.

    References:
        Ueda, Nakano, Ghahramani, Hinton (2000), SMEM algorithm for mixture models, Neural Computation 12.
    """
    for number in range(MOST_ROUNDS):
        point = trials.point(end.state)
        exchanges = _exchanges(trials.mixture, trials.table, point)
        if trials.stopped or not exchanges:
            break
        generator = Generator("cpu").manual_seed((seed << 8) + number)
        tried = trials.screened(_starts(trials.mixture, trials.table, point, exchanges, generator))
        tried = trials.finished(tried, point.bound)
        if trials.stopped or not tried or tried[0][0].bounds[-1] <= point.bound + trials.gain(point.bound):
            break
        best, after = tried[0]
        trace = [*run.trace, *(bound for bound in best.bounds if bound > run.bound)]
        run, end = trials.converged(trace, after.state)
    return run, end


def _exchanges(mixture: MixtureOfExperts, table: Table, point: Point) -> list[Exchange]:
    """Return the exchanges to try: pairs that share most rows, with every other component."""
    free = can_be_emptied(point, table)
    pairs = pairs_by_overlap(mixture, table, point, MOST_PAIRS)
    empty = [k for k, count in enumerate(point.counts(table).tolist()) if count < 1.0 and free[k]]
    # A component without rows is free already: nothing needs to be merged.
    pairs = [(k, k) for k in empty[:1]] + pairs
    found = [
        Exchange(keeps, loses, split)
        for keeps, loses in pairs
        for split in range(point.n_components)
        if split not in (keeps, loses) and split not in empty
        for _ in range(SPLITS)
    ]
    return found[:MOST_EXCHANGES]


def _starts(
    mixture: MixtureOfExperts, table: Table, point: Point, exchanges: Sequence[Exchange], generator: Generator
) -> list[Snapshot]:
    """Return the starts of runs after exchanges, the split components fitted to their rows."""
    device, n = table.x.device, len(exchanges)
    keeps, loses, split = torch.tensor([list(one) for one in exchanges], device="cpu").T.to(device)
    each = torch.arange(n, device=device)

    def with_halves(r: Tensor, first: Tensor) -> Tensor:
        """Return responsibilities [C, K, B] with a share of the split component's rows."""
        merged = r.expand(n, *r.shape).clone()
        merged[each, keeps] += torch.where(keeps == loses, 0.0, 1.0).unsqueeze(-1).to(r) * r[loses]
        merged[each, loses] = r[split] * (1.0 - first)
        merged[each, split] = r[split] * first
        return merged

    shares = _subset_shares(mixture, table, point, exchanges, generator)
    for _ in range(PARTIAL_ITERATIONS):

        def halves(r: Tensor, rows: slice, shares: Tensor = shares) -> Tensor:
            return with_halves(r, shares[:, rows])

        starts = snapshots(mixture, table, point, halves, n)
        joint = _joint(mixture, table, starts)
        difference = joint[each, split] - joint[each, loses]
        shares = difference.sigmoid().nan_to_num(0.5)
    return snapshots(mixture, table, point, lambda r, rows: with_halves(r, shares[:, rows]), n)


def _joint(mixture: MixtureOfExperts, table: Table, starts: Sequence[Snapshot]) -> Tensor:
    """Return E log π + E log p [C, K, N] after an update of each start."""
    stacked, by_gradient = nested.stack(list(starts)), GradientMSteps(n_steps=N_GRADIENT_STEPS)
    state = em.update(mixture, stacked.state, stacked, table, by_gradient)
    joint = mixture.log_joint(table.gate_x, table.columns, state)
    return joint.expand(len(starts), mixture.n_components, len(table.x))


def _subset_shares(
    mixture: MixtureOfExperts, table: Table, point: Point, exchanges: Sequence[Exchange], generator: Generator
) -> Tensor:
    """Return a first half of each split component's rows [C, N], nearer to one of two experts."""
    size = table.x.shape[1] + table.y.shape[1] + 1
    weights = table.weighted(point.responsibilities).double().cpu()
    r = point.responsibilities.new_zeros(len(exchanges), *point.responsibilities.shape)
    for number, one in enumerate(exchanges):
        chances = weights[one.split] + 1e-12
        rows = torch.multinomial(chances, min(2 * size, len(chances)), generator=generator).to(r.device)
        r[number, one.split, rows[: len(rows) // 2]] = 1.0
        r[number, one.loses, rows[len(rows) // 2 :]] = 1.0
    starts = snapshots(mixture, table, point, lambda _, rows: r[..., rows], len(exchanges))
    columns = table.columns
    stacked, by_gradient = nested.stack(list(starts)), GradientMSteps(n_steps=N_GRADIENT_STEPS)
    state = em.update(mixture, stacked.state, stacked, table, by_gradient)
    likelihoods = mixture.experts.log_likelihoods(columns, state.experts).expand_as(r)
    numbers = torch.tensor([list(one) for one in exchanges], device="cpu").T.to(r.device)
    each = torch.arange(len(exchanges), device=r.device)
    return (likelihoods[each, numbers[2]] - likelihoods[each, numbers[1]]).sigmoid().nan_to_num(0.5)
