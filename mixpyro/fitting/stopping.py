"""When a run of variational EM ends: rules as functions of the trace of its bound."""

import functools
import math
from collections.abc import Sequence

import torch

# Measured rounding error of a sum over rows, in units of eps, and of the bound itself, a float64, in units of its eps:
# its last digit alone is up to one. Below that, steps of a run that has converged would seem to lower the bound.
ROUNDING, ROUNDING_OF_BOUND = 0.125, 2.0
# Iterations without a better bound after which a run has stalled.
STALLED = 6
# A run is given up when, for this many iterations, its extrapolated gain times GENEROSITY has not reached the best run.
PATIENCE, GENEROSITY = 8, 10.0


def has_converged(trace: Sequence[float], tolerance: float) -> bool:
    """Return whether less than the tolerance is left to gain, by Aitken's extrapolation at the last two iterations.

    At two, because a run that reaches a plateau looks for one iteration as if it had converged.

    Args:
        trace: the bound at every iteration, in nats.
        tolerance: nats that may be left to gain.
    """
    ends = (len(trace) - 1, len(trace))
    return len(trace) >= 4 and all(left_to_gain(trace[end - 3 : end]) <= tolerance for end in ends)


def has_stalled(trace: Sequence[float]) -> bool:
    """Return whether the best of the last ``STALLED`` bounds is no better than the best of as many before.

    Without rounding errors a bound rises at every iteration, so that this is never so.

    Args:
        trace: the bound at every iteration, in nats.
    """
    return len(trace) > 2 * STALLED and max(trace[-STALLED:]) <= max(trace[-2 * STALLED : -STALLED])


def left_to_gain(bounds: Sequence[float]) -> float:
    """Return what a geometric series through three bounds would add to the last, in nats.

    McLachlan, Peel (2000), Finite Mixture Models, section 2.11.

    Args:
        bounds: three in a row, in nats.
    """
    before, last = bounds[1] - bounds[0], bounds[2] - bounds[1]
    if last <= 0.0 or before <= 0.0:
        # Rounding: the bound cannot fall otherwise.
        return abs(last)
    return last * last / (before - last) if last < before else math.inf


def is_hopeless(trace: Sequence[float], best: float) -> bool:
    """Return whether what a run may still gain, extrapolated generously, would leave it behind the best run.

    Args:
        trace: the bound at every iteration, in nats.
        best: bound that another run has reached, in nats.
    """
    if len(trace) < PATIENCE + 2 or trace[-1] >= best:
        return False
    # A step that was not taken repeats a bound, and says nothing of what is left.
    trace = without_repeats(trace[-4 * PATIENCE :])
    if len(trace) < PATIENCE + 2:
        return False
    # The last first, which says no the most often.
    ends = range(len(trace) - 1, len(trace) - PATIENCE - 1, -1)
    return all(trace[end] + GENEROSITY * left_to_gain(trace[end - 2 : end + 1]) < best for end in ends)


def without_repeats(trace: Sequence[float]) -> list[float]:
    """Return the bounds without those that equal the one before.

    Args:
        trace: the bound at every iteration, in nats.
    """
    return [bound for number, bound in enumerate(trace) if not number or bound != trace[number - 1]]


def least_tolerance(magnitude: float, dtype: torch.dtype) -> float:
    """Return the rounding error of the bound in nats, below which no gain can be seen.

    Args:
        magnitude: sum of the rows' absolute log evidences, in nats, whose roundings of either sign all but cancel.
        dtype: of the data.
    """
    return _relative_rounding(dtype) * magnitude


@functools.cache
def _relative_rounding(dtype: torch.dtype) -> float:
    """Return the rounding error of a bound of one nat of absolute log evidences; asked for in every iteration."""
    of_rows, of_bound = ROUNDING * torch.finfo(dtype).eps, ROUNDING_OF_BOUND * torch.finfo(torch.float64).eps
    return max(of_rows, of_bound)
