"""Several gates of one class as one, with an axis of runs: what each would do alone, in one call."""

import copy
from collections.abc import Sequence

import torch

from mixpyro.gates.base import Gate


def stacked(gates: Sequence[Gate]) -> Gate:
    """A gate whose state is that of ``gates``, [R, …]; they keep their own.

    Its statistics are those of responsibilities [N, R K], its expected log weights [R, 1, K], its KL divergences [R].

    Args:
        gates: at least one, copies of each other but for their posteriors, with
            :attr:`~mixpyro.gates.base.Gate.can_be_stacked`.
    """
    whole = copy.deepcopy(gates[0])
    whole.n_components = sum(gate.n_components for gate in gates)
    for name in whole.stacked_buffers:
        setattr(whole, name, torch.stack([getattr(gate, name) for gate in gates]))
    return whole


def unstack(whole: Gate, gates: Sequence[Gate]) -> None:
    """Give each of ``gates`` what its part of ``whole`` has become."""
    for name in whole.stacked_buffers:
        for gate, state in zip(gates, getattr(whole, name), strict=True):
            setattr(gate, name, state.clone())
