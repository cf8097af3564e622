"""Least points at which rising functions are zero or above, of many functions at once."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# Heights of rising functions: the numbers [m] of some of M functions and a point of each [m, P] to heights [m, P],
# which may be infinite.
Heights = Callable[[Tensor, Tensor], Tensor]

# Relative width of a bracket that is narrow enough where the function is continuous.
RELATIVE_WIDTH = 2.0**-46
# Rise within so narrow a bracket from which on the function jumps there; the jump is then found to the last digit.
JUMP = 1e-6
# Height that is zero but for rounding.
ROUNDING = 2.0**-50
# Numbers nearer to zero than this are not told apart from zero.
SMALLEST = 1e-30
# Factor by which a step that widens a bracket grows, and most of these steps: from the least to the largest number.
GROWTH, N_WIDENINGS = 16.0, 300
# Steps that interpolate. Those after them halve the float64 numbers between both ends, of which there are below 2⁶⁴.
N_INTERPOLATIONS, N_HALVINGS = 24, 66
# Share of the functions that must be done before the others are taken by themselves.
LEAST_DONE = 0.2
LARGEST = torch.finfo(torch.float64).max


class Points(NamedTuple):
    """Points [m, P] at which functions were evaluated, and the heights there."""

    last: Tensor
    other: Tensor  # the nearest point on the other side of zero
    third: Tensor  # what one of both replaced
    last_height: Tensor
    other_height: Tensor
    third_height: Tensor

    @property
    def ends(self) -> tuple[Tensor, Tensor]:
        """Greatest point below zero, and least point at or above it."""
        is_high = self.last_height >= 0
        return torch.where(is_high, self.other, self.last), torch.where(is_high, self.last, self.other)

    def after(self, point: Tensor, height: Tensor) -> "Points":
        """Return the points after one more evaluation between the ends."""
        same = (height >= 0) == (self.last_height >= 0)
        return Points(
            point,
            torch.where(same, self.other, self.last),
            torch.where(same, self.last, self.other),
            height,
            torch.where(same, self.other_height, self.last_height),
            torch.where(same, self.last_height, self.other_height),
        )


def least_reached(heights: Heights, low: Tensor, high: Tensor, are_whole: Tensor) -> Tensor:
    """Find the least points at which rising functions are at least zero.

    The steps are those of Chandrupatla's method. Functions that are done are evaluated no more.

    Args:
        heights: of M rows of P functions.
        low: guess of points below zero, float64 [M, P].
        high: guess of points above, at least ``low``.
        are_whole: whether the least point is known to be a whole number, bool [P].

    Returns:
        Points [M, P], infinite where zero is nowhere reached; right to ``RELATIVE_WIDTH``, jumps to the last digit.

    References:
        Chandrupatla (1997), A new hybrid quadratic/bisection algorithm for finding the zero of a nonlinear function
        without using derivatives.
    """
    rows = torch.arange(len(low), device=low.device)
    points = _around(heights, torch.where(are_whole, low.floor(), low), torch.where(are_whole, high.ceil(), high))
    found = points.ends[1].clone()
    for step in range(N_INTERPOLATIONS + N_HALVINGS):
        is_done = _are_narrow(points, are_whole)
        is_left = ~is_done.all(-1)
        n_left = int(is_left.sum())
        if n_left <= (1.0 - LEAST_DONE) * len(rows):
            found[rows] = points.ends[1]
            rows, is_done, points = rows[is_left], is_done[is_left], Points(*(part[is_left] for part in points))
        if n_left == 0:
            break
        point = _interpolated(points, is_first=step == 0) if step < N_INTERPOLATIONS else _halfway(*points.ends)
        point = torch.where(is_done, points.last, _inside(point, points, are_whole))
        points = points.after(point, heights(rows, point))
    found[rows] = points.ends[1]
    return _with_zeros(heights, found)


def nearly_reached(heights: Heights, low: Tensor, high: Tensor, *, n_steps: int) -> Tensor:
    """Return points near those at which continuous rising functions are zero, after a few steps.

    Args:
        heights: of M rows of P functions.
        low: guess of points below zero, float64 [M, P].
        high: guess of points above, at least ``low``.
        n_steps: evaluations of each function after those at both guesses.
    """
    rows = torch.arange(len(low), device=low.device)
    points, are_whole = _around(heights, low, high), torch.zeros(low.shape[1], dtype=torch.bool, device=low.device)
    for step in range(n_steps):
        point = _inside(_interpolated(points, is_first=step == 0), points, are_whole)
        points = points.after(point, heights(rows, point))
    return points.last


def _around(heights: Heights, low: Tensor, high: Tensor) -> Points:
    """Widen brackets until zero is between both ends, by steps that grow; a bracket beyond it is moved."""
    some = torch.arange(len(low), device=low.device)
    found = torch.stack([low, high, heights(some, low), heights(some, high)])
    step = torch.maximum(high - low, RELATIVE_WIDTH * torch.maximum(low.abs(), high.abs())).clamp_min(SMALLEST)
    for widening in range(N_WIDENINGS):
        low, high, low_height, high_height = found[:, some]
        down = low_height >= 0
        up = ~(high_height >= 0) & ~down
        is_left = (down | up).any(-1)
        some, step = some[is_left], step[is_left]
        if not len(some):
            break
        low, high, low_height, high_height = found[:, some]
        down, up = down[is_left], up[is_left]
        point = torch.where(down, low - step, torch.where(up, high + step, low)).clamp(-LARGEST, LARGEST)
        height = heights(some, point)
        found[:, some] = torch.stack(
            [
                torch.where(down, point, torch.where(up, high, low)),
                torch.where(down, low, torch.where(up, point, high)),
                torch.where(down, height, torch.where(up, high_height, low_height)),
                torch.where(down, low_height, torch.where(up, height, high_height)),
            ]
        )
        if widening == 0:
            found[:, some] = _without_ends(heights, some, found[:, some])
        step = GROWTH * step
    low, high, low_height, high_height = found
    return Points(high, low, low, high_height, low_height, low_height)


def _without_ends(heights: Heights, rows: Tensor, found: Tensor) -> Tensor:
    """Return ends and their heights [4, m, P], with both ends at infinity where zero is reached nowhere.

    Where it is reached everywhere, both are at the least number.
    """
    largest = torch.full_like(found[0], LARGEST)
    is_nowhere, is_everywhere = ~(heights(rows, largest) >= 0), heights(rows, -largest) >= 0
    for end, height in ((0, -1.0), (1, 1.0)):
        found[end] = torch.where(is_nowhere, torch.inf, torch.where(is_everywhere, -LARGEST, found[end]))
        found[end + 2] = torch.where(is_nowhere | is_everywhere, height, found[end + 2])
    return found


def _are_narrow(points: Points, are_whole: Tensor) -> Tensor:
    """Return whether the upper end is near enough to zero, bool [m, P]."""
    low, high = points.ends
    width, nearest = high - low, torch.minimum(low.abs(), high.abs())
    jumps = (points.last_height - points.other_height).abs() > JUMP
    is_narrow = (width <= (RELATIVE_WIDTH * nearest).clamp_min(SMALLEST)) & ~jumps
    is_narrow = torch.where(are_whole, width <= 1.0, is_narrow)
    return is_narrow | (_next(low) >= high) | (torch.maximum(low.abs(), high.abs()) < SMALLEST)


def _interpolated(points: Points, *, is_first: bool) -> Tensor:
    """Return where the inverse quadratic through three points is zero if that can be trusted, else the middle."""
    a, b, c, fa, fb, fc = points
    xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
    share = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
    is_sound = (phi.square() < xi) & ((1.0 - phi).square() < 1.0 - xi) & share.isfinite()
    other = fa / (fa - fb) if is_first else torch.full_like(fa, 0.5)
    share = torch.where(is_sound, share, torch.where(other.isfinite(), other, 0.5))
    # At least half a bracket's final width from both ends: from near one end, that step brackets zero.
    from_a = fa.abs() < fb.abs()
    nearest = torch.where(from_a, a, b).abs()
    least = (0.5 * RELATIVE_WIDTH * nearest / (b - a).abs()).nan_to_num(0.0).clamp_max(0.5)
    share = torch.minimum(torch.maximum(share, least), 1.0 - least)
    share = torch.where(_is_reached(points), _beyond(least, fa, fb, from_a), share)
    return a * (1.0 - share) + b * share


def _is_reached(points: Points) -> Tensor:
    """Return whether zero was reached but for rounding, and the last step was not another one from there."""
    _, _, _, fa, fb, fc = points
    again = ((fa >= 0) == (fc >= 0)) & (fa.abs() <= ROUNDING)
    return (torch.minimum(fa.abs(), fb.abs()) <= ROUNDING) & ~again


def _beyond(least: Tensor, fa: Tensor, fb: Tensor, from_a: Tensor) -> Tensor:
    """Return a short step from the end where zero is, beyond the rounding error of the heights."""
    step = torch.maximum(least, 2.0 * ROUNDING / (fa - fb).abs()).clamp_max(0.5)
    return torch.where(from_a, step, 1.0 - step)


def _inside(point: Tensor, points: Points, are_whole: Tensor) -> Tensor:
    """Return points moved between both ends, whole numbers where the least point is one."""
    low, high = points.ends
    least, most = _next(low), -_next(-high)
    least = torch.where(are_whole, torch.maximum(least, low + 1.0), least)
    most = torch.where(are_whole, torch.minimum(most, high - 1.0), most)
    return torch.maximum(least, torch.minimum(most, torch.where(are_whole, point.floor(), point)))


def _next(values: Tensor) -> Tensor:
    """Return the next larger float64 numbers."""
    return torch.nextafter(values, torch.full_like(values, torch.inf))


def _halfway(low: Tensor, high: Tensor) -> Tensor:
    """Return the points with as many float64 numbers below them as above, up to the ends."""
    least = torch.iinfo(torch.int64).min
    bits = torch.stack([low, high]).view(torch.int64)
    below, above = torch.where(bits < 0, least - bits, bits)
    middle = (below >> 1) + (above >> 1) + (below & above & 1)
    return torch.where(middle < 0, least - middle, middle).view(torch.float64)


def _with_zeros(heights: Heights, found: Tensor) -> Tensor:
    """Return points with zero itself in place of those next to it, where zero is reached there."""
    is_next = (found.abs() < SMALLEST) & (found != 0.0)
    rows = is_next.any(-1).nonzero().squeeze(-1)
    if len(rows):
        is_zero = is_next[rows] & (heights(rows, torch.zeros_like(found[rows])) >= 0)
        found[rows] = torch.where(is_zero, 0.0, found[rows])
    return found
