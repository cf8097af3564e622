"""When a run of variational EM is extrapolated, and when it ends then: rules as functions of its last bounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from mixpyro.fitting.stopping import has_converged, left_to_gain

# Iterations before the first extrapolation. Far from an optimum, it may lead to another one than plain EM does.
FIRST = 12
# Plain gains in a row, the last bounds of a run, that must speak for an extrapolation.
N_GAINS = 4
# Least ratio of two gains in a row of a run that is slow. Below it plain EM gains a digit in seven iterations.
SLOW = 0.7
# Largest ratio that is told from one. Where a run passes a saddle, it is above one.
LARGEST = 0.9999
# Nats. A run with less to gain is near its optimum: the posterior is all but quadratic there.
NEAR = 1.0
# A run is near, too, where extrapolated optima of three iterations differ by at most this share of what is left.
STEADY = 0.1


class Step(Enum):
    """What led to an E-step."""

    PLAIN = "plain"
    EXTRAPOLATED = "extrapolated"
    REJECTED = "rejected"
    SHORTENED = "shortened"


@dataclass
class Pace:
    """Whether the next iteration of a run is extrapolated, and what its stopping rule knows.

    A slow run near its optimum is extrapolated until a bound falls, which takes plain iterations to begin again. Gains
    of extrapolations say nothing of what is left. After one that gains less than the tolerance come two plain
    iterations, and the run ends if they gain little at the slowest rate of any direction that the last iterations went
    in. Where that rate is one or more, a saddle is near, which extrapolations would end at: they wait then.

    Attributes:
        n_plain: plain iterations since the last of another kind.
        n_wanted: plain gains in a row before the next extrapolation.
        is_watched: whether iterations should be kept, to extrapolate from.
        is_near: whether the run is slow and near its optimum.
        is_checked: whether plain iterations find out what is left to gain.
        rate: ratio of gains in a row that the run ends by; 0 for one that was not extrapolated, which ends by its own.
    """

    n_plain: int = 0
    n_wanted: int = N_GAINS
    is_watched: bool = False
    is_near: bool = False
    is_checked: bool = False
    rate: float = 0.0

    @property
    def extrapolates(self) -> bool:
        """Whether the next iteration is extrapolated."""
        return self.is_near and not self.is_checked

    def record(self, bounds: Sequence[float], tolerance: float, step: Step) -> bool:
        """Decide on the next iteration; return whether the run has converged.

        Args:
            bounds: of all iterations, in nats, that of the last one included.
            tolerance: nats that may be left to gain when the run ends.
            step: what the last iteration was.
        """
        converged = False
        if step is Step.PLAIN:
            self.n_plain += 1
            converged = self._has_converged(bounds, tolerance)
            self.is_checked = self.is_checked and self.n_plain < 2 and self._left(bounds) <= tolerance
            self.is_near = self.is_near or self._is_near(bounds)
        elif step is Step.EXTRAPOLATED:
            if self.n_plain >= 2:
                self.rate = min(max(ratio(bounds[-4:-1]), SLOW), LARGEST)
            self.n_plain, self.is_checked = 0, bounds[-1] - bounds[-2] <= tolerance
        else:
            self.n_plain, self.is_near, self.is_checked = 0, False, False
        is_slow = self.n_plain >= 2 and len(bounds) >= FIRST - N_GAINS and SLOW <= ratio(bounds[-3:]) < 1.0
        self.is_watched = self.is_near or is_slow
        return converged

    def see_rate(self, rate: float) -> None:
        """Take account of the slowest rate of the last iterations; wait with extrapolations if a saddle is near.

        Args:
            rate: ratio of gains in a row.
        """
        self.rate = min(max(self.rate, rate), LARGEST)
        if rate >= 1.0:
            self.n_plain, self.n_wanted, self.is_near, self.is_checked = 0, 2 * self.n_wanted, False, False

    def _has_converged(self, bounds: Sequence[float], tolerance: float) -> bool:
        """Return whether less than the tolerance is left to gain."""
        if not self.rate:
            # Its rule reads three gains, which must be plain: a run may go on from the trace of another.
            return self.n_plain >= 3 and has_converged(bounds, tolerance)
        if self.n_plain < (2 if self.is_checked else self.n_wanted + 1) or (self.is_near and not self.is_checked):
            return False
        return max(self._left(bounds[:-1]), self._left(bounds), left_to_gain(bounds[-3:])) <= tolerance

    def _left(self, bounds: Sequence[float]) -> float:
        """Return what a geometric series of gains at the slowest rate would add, in nats."""
        return abs(bounds[-1] - bounds[-2]) * self.rate / (1.0 - self.rate)

    def _is_near(self, bounds: Sequence[float]) -> bool:
        """Return whether a run begins to be extrapolated."""
        return self.n_plain >= self.n_wanted and len(bounds) >= FIRST and is_near(bounds[-1 - N_GAINS :])


def is_near(bounds: Sequence[float]) -> bool:
    """Return whether a run is slow, and little is left to gain or its extrapolated optimum stays where it is.

    Args:
        bounds: the last ones, of plain iterations, at least five, in nats.
    """
    if not SLOW <= ratio(bounds[-3:]) < 1.0:
        return False
    ends = range(len(bounds) - 2, len(bounds) + 1)
    left = [left_to_gain(bounds[end - 3 : end]) for end in ends]
    optima = [bounds[end - 1] + more for end, more in zip(ends, left, strict=True)]
    return max(left) < float("inf") and (left[-1] <= NEAR or max(optima) - min(optima) <= STEADY * left[-1])


def ratio(bounds: Sequence[float]) -> float:
    """Return the ratio of two gains in a row; 0 where there is none.

    Args:
        bounds: three in a row, in nats.
    """
    if len(bounds) < 3:
        return 0.0
    before, last = bounds[1] - bounds[0], bounds[2] - bounds[1]
    return last / before if before > 0.0 and last > 0.0 else 0.0
