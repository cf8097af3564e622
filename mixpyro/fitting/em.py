"""Variational EM: one E-step and one update for R runs with a leading axis."""

from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro.distributed import sums
from mixpyro.fitted_part import Gradient
from mixpyro.fitting.known_labels import joint_of
from mixpyro.fitting.pieces import code_of, of_objects, parts, pieces_of, slices_of_pieces, summed, total_of
from mixpyro.fitting.table import Table
from mixpyro.gates.per_object import ObjectGate
from mixpyro.mixture import MixtureOfExperts, MixtureState
from mixpyro.numerics import nested
from mixpyro.numerics.far_rows import normalised_joint
from mixpyro.shapes import Responsibilities, Value

# Copies of a run's state that are held at once: statistics, temporaries of an update, states to go back to.
COPIES = 12


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


def numbers_of_run(mixture: MixtureOfExperts, state: MixtureState, table: Table) -> int:
    """Return about how many numbers are held for a run while it is iterated beside others.

    Args:
        mixture: whose formulas are used.
        state: of one run, without an axis of runs.
        table: whose responsibilities are held where an update reads rows.
    """
    k = mixture.n_components
    total = sum(tensor.numel() for tensor in nested.tensors(state))
    if mixture.experts.takes_steps:
        # Second derivatives in the coefficients of each component.
        total += k * sum(tensor.numel() // k for tensor in state.experts.estimates) ** 2
    if mixture.gate.takes_steps:
        total += sum(tensor.numel() for tensor in state.gate.estimates) ** 2
    return COPIES * (total + (k * table.size if reads_rows(mixture) else 0))


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
    kept = table.x.new_empty(n_runs, mixture.n_components, table.size) if keep else None
    has_own = has_objects(mixture)

    def found(part: Table, rows: slice) -> tuple[Statistics, Tensor]:
        log_joint, columns = joint_of(mixture, part.columns, part.labels)
        r, log_evidence = normalised_joint(log_joint, part.gate_x, columns, state, objects=rows)
        if power != 1.0:
            r = r.pow_(power).div_(r.sum(-2, keepdim=True))
        if kept is not None:
            kept[..., rows] = r
        weighted = part.weighted(log_evidence)
        evidence = torch.stack([weighted, weighted.abs()]).sum(-1, dtype=torch.float64)
        return statistics_of(mixture, part, part.weighted(r), state), evidence

    statistics, evidence = summed(
        table, n_runs * mixture.n_components, found, digest=lambda: code_of(common_tensors(mixture, state))
    )
    # Parts without any state have no axis of runs: all runs are one.
    evidence = evidence.expand(2, n_runs).clone()
    of_gate = divergences_of_objects(mixture, state, table) if has_own else mixture.gate.divergences(state.gate)
    evidence[0] -= of_gate + mixture.experts.divergences(state.experts)
    return EStep(statistics, evidence, kept)


def has_objects(mixture: MixtureOfExperts) -> bool:
    """Return whether the gate keeps a posterior of each object, so that a process has those of its own objects.

    Args:
        mixture: any.
    """
    return isinstance(mixture.gate, ObjectGate)


def divergences_of_objects(mixture: MixtureOfExperts, state: MixtureState, table: Table) -> Tensor:
    """Return KL(q‖p) of a gate that keeps a posterior of each object, of R runs in nats, over all processes.

    Args:
        mixture: with such a gate.
        state: of R runs, with the objects of this process.
        table: of them.
    """
    if table.blocks_of_all is None:
        return mixture.gate.divergences(state.gate)
    posterior = state.gate.posterior

    def of_block(objects: slice) -> Tensor:
        own = posterior._replace(**{posterior._fields[-1]: of_objects(posterior[-1], objects, dim=-2)})
        return mixture.gate.divergences(state.gate._replace(posterior=own))

    found: Tensor = total_of(table, [of_block(objects) for objects, _ in pieces_of(table)])
    return found


def common_tensors(mixture: MixtureOfExperts, state: MixtureState) -> list[Tensor]:
    """Return the tensors of a state that are the same on all processes.

    Args:
        mixture: whose state it is.
        state: with or without an axis of runs.
    """
    return nested.tensors(state.experts if has_objects(mixture) else state)


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
    objects, rows = slices_of_pieces(table)
    with sums.over(table.blocks_of_all, objects):
        of_gate = gate.advanced(state.gate, step.statistics.gate, (table.gate_x,), r, by_gradient)
    with sums.over(table.blocks_of_all, rows):
        inputs = table.x, table.y
        of_experts = experts.advanced(state.experts, step.statistics.experts, inputs, of_rows, by_gradient)
    return MixtureState(of_gate, of_experts)


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
    has_members = getattr(mixture.experts, "members", None) is not None
    if mixture.gate.takes_steps and mixture.experts.takes_steps and table.blocks_of_all is None and not has_members:
        # Their sums are of a state, which the first update does not begin with.
        return Snapshot(mixture.state(), Statistics((), ()), r[0])
    total = summed(
        table,
        mixture.n_components,
        lambda part, rows: statistics_of(mixture, part, part.weighted(of_objects(r, rows))),
    )
    keep = reads_rows(mixture) or takes_steps(mixture)
    return Snapshot(mixture.state(), nested.select(total, 0), r[0] if keep else None)


def responsibilities_of(mixture: MixtureOfExperts, state: MixtureState, table: Table) -> Responsibilities:
    """Return q(z) [N, K] of one run under its posteriors.

    Args:
        mixture: whose formulas are used.
        state: of the run, without an axis of runs.
        table: with columns.
    """
    found = table.x.new_empty(mixture.n_components, table.size)
    one = nested.stack([state])
    for rows, part in parts(table, mixture.n_components):
        log_joint, columns = joint_of(mixture, part.columns, part.labels)
        found[:, rows] = normalised_joint(log_joint, part.gate_x, columns, one, objects=rows)[0].squeeze(0)
    return found.mT
