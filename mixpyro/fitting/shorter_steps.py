"""Steps of an iteration that lowered the bound, made shorter until they do not."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro.fitting.em import EStep
from mixpyro.mixture import MixtureOfExperts, MixtureState

# Most times that a step is made shorter; then it is not taken.
MOST_TIMES = 20
# Factor of a step that lowered the bound, and of one at whose end it overflows.
SHORTER, OVERFLOWN = 0.5, 2.0**-6


class Reached(NamedTuple):
    """Where R runs are after an iteration."""

    state: MixtureState
    step: EStep  # at the state
    bounds: list[float]  # in nats
    magnitudes: list[float]  # sums of absolute log evidences, in nats


def shortened(
    mixture: MixtureOfExperts,
    reached: Reached,
    before: MixtureState,
    bounds: Sequence[float],
    rounding: Callable[[float], float],
    e_step: Callable[[MixtureState], EStep],
) -> tuple[Reached, list[int]]:
    """Return where R runs are after steps that lower no bound, and the places of the runs whose steps are shorter.

    Only what takes steps goes back: a posterior at its optimum given the responsibilities cannot lower the bound.

    Args:
        mixture: whose formulas are used.
        reached: after whole steps.
        before: state of R runs before them.
        bounds: of the runs before the steps, in nats; −∞ for a run that is left as it is.
        rounding: how far a bound may fall by rounding in nats, given the sum of absolute log evidences where it fell.
        e_step: makes an E-step of all runs: sums in other company would round otherwise.
    """
    whole, sizes, changed = reached.state, [1.0] * len(bounds), set[int]()
    for number in range(MOST_TIMES + 1):
        # Where a step has led far down, rounding errors are large too: they excuse the state there, and no other.
        least = [
            bound - (rounding(magnitude) if math.isfinite(magnitude) else 0.0)
            for bound, magnitude in zip(bounds, reached.magnitudes, strict=True)
        ]
        low = [
            place
            for place, bound in enumerate(reached.bounds)
            if bounds[place] > -math.inf and not bound >= least[place]
        ]
        if not low:
            break
        for place in low:
            factor = SHORTER if math.isfinite(reached.bounds[place]) else OVERFLOWN
            sizes[place] *= factor if number < MOST_TIMES else 0.0
        changed.update(low)
        state = _part_way(mixture, before, whole, torch.tensor(sizes, dtype=torch.float64, device="cpu"))
        step = e_step(state)
        reached = Reached(state, step, *step.evidence.tolist())
    return reached, sorted(changed)


def _part_way(mixture: MixtureOfExperts, before: MixtureState, after: MixtureState, sizes: Tensor) -> MixtureState:
    """Return states of runs part of the way along steps."""
    gate = mixture.gate.part_way(before.gate, after.gate, sizes)
    return MixtureState(gate, mixture.experts.part_way(before.experts, after.experts, sizes))
