"""Estimates of a stream that are so far out that no step leads back, taken back where a batch says so."""

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.fitted_part import State
from mixpyro.fitting.known_labels import joint_of
from mixpyro.fitting.pieces import summed
from mixpyro.fitting.stream_steps import with_run
from mixpyro.fitting.table import Table
from mixpyro.mixture import MixtureOfExperts, MixtureState
from mixpyro.numerics import nested
from mixpyro.numerics.far_rows import normalised_joint

# Shares of the way back, on a scale of logarithms, that are tried. The first one stays.
SHARES = (0.0, 0.4, 0.55, 0.7, 0.85, 1.0)
# Nats that a batch must gain. Less is chance.
LEAST_GAIN = 1.0
# Objects of a batch that are looked at, about: enough to gain a nat where far estimates are wrong.
MOST_OBJECTS = 10_000


def take_back(mixture: MixtureOfExperts, table: Table) -> None:
    """Take estimates back that are far out, as those of a batch that a component separates, if a new batch gains by it.

    There a likelihood is flat, and steps on batches would take thousands of them. Components go one after the other.

    Args:
        mixture: being fitted to a stream.
        table: a batch that it has not seen, with columns.
    """
    for of_gate, part in ((True, mixture.gate), (False, mixture.experts)):
        are_far = part.are_far(with_run(part.state()))
        if are_far is None or not bool(are_far.any()):
            continue
        few = _few_objects(table)
        for component in are_far[0].nonzero().flatten().tolist():
            _take_back(mixture, few, component, of_gate=of_gate)


def _few_objects(table: Table) -> Table:
    """Return objects from all over a batch; all where they lie in several blocks, perhaps of several processes."""
    blocks, step = table.blocks_of_all, -(-table.size // MOST_OBJECTS)
    if step == 1 or (blocks is not None and blocks.n_blocks > 1):
        return table
    return table.block(torch.arange(0, table.size, step, device=table.x.device))


def _take_back(mixture: MixtureOfExperts, table: Table, component: int, *, of_gate: bool) -> None:
    """Take the estimates of one component back as far as the batch says."""
    before = nested.stack([mixture.state()] * len(SHARES))
    part, own = (mixture.gate, before.gate) if of_gate else (mixture.experts, before.experts)
    tried: State = part.taken_back(own, component, torch.tensor(SHARES, dtype=torch.float64, device="cpu"))
    states = before._replace(gate=tried) if of_gate else before._replace(experts=tried)
    gains = _evidences(mixture, table, states)
    # A row that cannot be where the estimates are may be possible nearer.
    gains = (gains - gains[0]).nan_to_num(0.0, torch.inf, 0.0)
    if float(gains.max()) >= LEAST_GAIN:
        part.hold(nested.select(tried, int(gains.argmax())))


def _evidences(mixture: MixtureOfExperts, table: Table, states: MixtureState) -> Float[Tensor, " R"]:
    """Return the log evidence of a batch under R states, in nats."""

    def found(rows: Table, _: slice) -> Tensor:
        log_joint, columns = joint_of(mixture, rows.columns, rows.labels)
        log_evidence = normalised_joint(log_joint, rows.gate_x, columns, states)[1]
        return rows.weighted(log_evidence).sum(-1, dtype=torch.float64)

    total: Tensor = summed(table, len(SHARES) * mixture.n_components, found)
    return total
