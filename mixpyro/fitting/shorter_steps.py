"""Steps of an iteration that lowered the bound, made shorter until they do not."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro.fitting.em import EStep
from mixpyro.mixture import MixtureOfExperts, MixtureState
from mixpyro.numerics import nested

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
    least: Sequence[float],
    e_step: Callable[[MixtureState, int], EStep],
) -> tuple[Reached, list[int]]:
    """Return where R runs are after steps that lower no bound, and the places of the runs whose steps are shorter.

    Only what takes steps goes back: a posterior at its optimum given the responsibilities cannot lower the bound.

    Args:
        mixture: whose formulas are used.
        reached: after whole steps.
        before: state of R runs before them.
        least: bound of each run that is no fall, in nats; −∞ for a run that is left as it is.
        e_step: makes an E-step of a state of as many runs.
    """
    whole, sizes, changed = reached.state, [1.0] * len(least), set[int]()
    for number in range(MOST_TIMES + 1):
        low = [
            place
            for place, bound in enumerate(reached.bounds)
            if least[place] > -math.inf and not bound >= least[place]
        ]
        if not low:
            break
        for place in low:
            factor = SHORTER if math.isfinite(reached.bounds[place]) else OVERFLOWN
            sizes[place] *= factor if number < MOST_TIMES else 0.0
        changed.update(low)
        some = torch.tensor([sizes[place] for place in low], dtype=torch.float64)
        state = _part_way(mixture, nested.select(before, low), nested.select(whole, low), some)
        reached = _replaced(reached, state, e_step(state, len(low)), low)
    return reached, sorted(changed)


def _part_way(mixture: MixtureOfExperts, before: MixtureState, after: MixtureState, sizes: Tensor) -> MixtureState:
    """Return states of runs part of the way along steps."""
    gate = mixture.gate.part_way(before.gate, after.gate, sizes)
    return MixtureState(gate, mixture.experts.part_way(before.experts, after.experts, sizes))


def _replaced(reached: Reached, state: MixtureState, step: EStep, places: Sequence[int]) -> Reached:
    """Return where runs are with some of them elsewhere."""
    index = torch.tensor(places, device=step.evidence.device)
    bounds, magnitudes = list(reached.bounds), list(reached.magnitudes)
    for place, bound, magnitude in zip(places, *step.evidence.tolist(), strict=True):
        bounds[place], magnitudes[place] = bound, magnitude
    new_state: MixtureState = _put(reached.state, state, index)
    both = EStep(
        _put(reached.step.statistics, step.statistics, index),
        reached.step.evidence.index_copy(1, index, step.evidence),
        None if step.responsibilities is None else _put(reached.step.responsibilities, step.responsibilities, index),
    )
    return Reached(new_state, both, bounds, magnitudes)


def _put(values: nested.Nested, some: nested.Nested, index: Tensor) -> nested.Nested:
    """Return values of runs with some of them replaced."""
    return nested.apply(lambda all_, own: all_.index_copy(0, index, own), values, some)
