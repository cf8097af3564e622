"""Variational EM: one E-step and one update for R runs with a leading axis."""

from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro.fitting.known_labels import joint_of
from mixpyro.fitting.table import Table
from mixpyro.mixture import MixtureOfExperts, MixtureState
from mixpyro.numerics import nested
from mixpyro.numerics.far_rows import normalised_joint
from mixpyro.part import Gradient
from mixpyro.shapes import Responsibilities, Value


class Statistics(NamedTuple):
    """Sums over the rows under the responsibilities, which the next update needs."""

    gate: Value
    experts: Value


class EStep(NamedTuple):
    """What an E-step of R runs finds."""

    statistics: Statistics
    evidence: Tensor  # bounds, and sums of the rows' absolute log evidences [2, R], float64: read together, once
    responsibilities: Tensor | None  # [R, K, N], where a part of the mixture reads rows or the caller asked for them


class Snapshot(NamedTuple):
    """One run between two iterations: its state, and what its next update reads."""

    state: MixtureState
    statistics: Value = None  # of the rows; None where the next E-step must find them
    responsibilities: Tensor | None = None  # [K, N]


def reads_rows(mixture: MixtureOfExperts) -> bool:
    """Return whether an update needs every row and its responsibilities.

    Args:
        mixture: any.
    """
    return bool(mixture.gate.reads_rows or mixture.experts.reads_rows)


def takes_steps(mixture: MixtureOfExperts) -> bool:
    """Return whether an update takes steps that may lower the bound.

    Args:
        mixture: any.
    """
    return bool(mixture.gate.takes_steps or mixture.experts.takes_steps)


def in_lockstep(mixture: MixtureOfExperts) -> bool:
    """Return whether all runs are updated at once.

    Args:
        mixture: any.
    """
    return bool(mixture.gate.in_lockstep and mixture.experts.in_lockstep)


def e_step(
    mixture: MixtureOfExperts,
    state: MixtureState,
    table: Table,
    *,
    n_runs: int = 1,
    keep: bool = False,
    power: float = 1.0,
) -> EStep:
    """Compute responsibilities of R runs, their bounds, and the statistics under them, in one pass over the rows.

    Args:
        mixture: whose formulas are used; parts without formulas for many runs hold the last run's state afterwards.
        state: of R runs.
        table: with columns.
        n_runs: R.
        keep: whether to return the responsibilities, as an update of a part that reads rows needs them.
        power: to which the responsibilities are raised, in (0, 1]; 1 for none.
    """
    k = mixture.n_components
    kept = table.x.new_empty(n_runs, k, table.size) if keep else None
    found: tuple[Statistics, Tensor] | None = None
    for rows in table.blocks(n_runs * k):
        block = table.block(rows)
        log_joint, columns = joint_of(mixture, block.columns, block.labels)
        r, log_evidence = normalised_joint(log_joint, block.gate_x, columns, state, objects=rows)
        if power != 1.0:
            r = r.pow_(power).div_(r.sum(-2, keepdim=True))
        if kept is not None:
            kept[..., rows] = r
        weighted = block.weighted(log_evidence)
        evidence = torch.stack([weighted, weighted.abs()]).sum(-1, dtype=torch.float64)
        of_block = statistics_of(mixture, block, block.weighted(r), state), evidence
        found = of_block if found is None else nested.add(found, of_block)
    assert found is not None
    statistics, evidence = found
    # Parts without any state have no axis of runs: all runs are one.
    evidence = evidence.expand(2, n_runs).clone()
    evidence[0] -= mixture.gate.divergences(state.gate) + mixture.experts.divergences(state.experts)
    return EStep(statistics, evidence, kept)


def update(
    mixture: MixtureOfExperts,
    state: MixtureState,
    step: EStep | Snapshot,
    table: Table,
    by_gradient: Gradient,
) -> MixtureState:
    """Return the state of R runs with every part at its optimum given the responsibilities, or nearer by gradient.

    Args:
        mixture: whose formulas are used.
        state: of R runs.
        step: statistics and responsibilities of R runs.
        table: with columns.
        by_gradient: raises the share of the bound of a part without a method of its own, given the part and its rows.
    """
    r = None if step.responsibilities is None else table.weighted(step.responsibilities)
    of_rows = None if r is None else table.of_rows(r)
    gate, experts = mixture.gate, mixture.experts
    return MixtureState(
        gate.advanced(state.gate, step.statistics.gate, (table.gate_x,), r, by_gradient),
        experts.advanced(state.experts, step.statistics.experts, (table.x, table.y), of_rows, by_gradient),
    )


def statistics_of(
    mixture: MixtureOfExperts, table: Table, responsibilities: Tensor, state: MixtureState | None = None
) -> Statistics:
    """Return the sums over rows that the updates of R runs need.

    Args:
        mixture: whose formulas are used.
        table: with columns.
        responsibilities: [R, K, N], times the rows' weights.
        state: of R runs, which some sums depend on; the mixture's own by default.
    """
    gate, experts = (None, None) if state is None else state
    of_gate = mixture.gate.sums(table.gate_x, responsibilities, gate)
    return Statistics(of_gate, mixture.experts.sums_of_objects(table.columns, responsibilities, experts))


def start(mixture: MixtureOfExperts, table: Table, responsibilities: Responsibilities) -> Snapshot:
    """Return the start of a run from the mixture's state and given responsibilities.

    Args:
        mixture: whose state the run begins with.
        table: with columns.
        responsibilities: [N, K].
    """
    r = responsibilities.mT.contiguous().unsqueeze(0)
    blocks = list(table.blocks(mixture.n_components))
    parts = [table.block(rows) for rows in blocks]
    statistics = [
        statistics_of(mixture, part, part.weighted(r[..., rows])) for part, rows in zip(parts, blocks, strict=True)
    ]
    total = statistics[0]
    for part in statistics[1:]:
        total = nested.add(total, part)
    keep = reads_rows(mixture) or takes_steps(mixture)
    return Snapshot(mixture.state(), nested.select(total, 0), r[0] if keep else None)


def responsibilities_of(mixture: MixtureOfExperts, state: MixtureState, table: Table) -> Responsibilities:
    """Return q(z) [N, K] of one run under its posteriors.

    Args:
        mixture: whose formulas are used.
        state: of the run, without an axis of runs.
        table: with columns.
    """
    kept = e_step(mixture, nested.stack([state]), table, keep=True).responsibilities
    assert kept is not None
    return kept[0].mT
