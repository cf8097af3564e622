"""Anderson acceleration of runs of variational EM that are slow and near their optimum."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mixpyro.fitted_part import Gradient
from mixpyro.fitting.coordinates import are_possible, at_coordinates, coordinates, have_coordinates
from mixpyro.fitting.em import EStep, Snapshot, reads_rows, takes_steps, update
from mixpyro.fitting.pace import Pace, Step
from mixpyro.fitting.table import Table
from mixpyro.mixture import MixtureOfExperts, MixtureState
from mixpyro.numerics import nested

# Differences between iterations that one is extrapolated from, and most numbers of a run to keep for them, 64 MiB.
MOST_DIFFERENCES, MOST_NUMBERS = 5, 2**23
# Differences that a first extrapolation needs.
LEAST_DIFFERENCES = 1
# Added to the diagonal of the normal equations of normalised differences, in units of eps.
RIDGE = 1e3
# Least unit of a coordinate, whose square is still above zero.
SMALLEST_UNIT = 1e-150


class History(NamedTuple):
    """The last iterations of R runs in coordinates, float64, the newest last; those before the first are zero."""

    point: Tensor  # coordinates of the current state [R, P]
    images: Tensor  # what iterations have led to [R, M, P]
    residuals: Tensor  # the same less where they began [R, M, P]


class Accelerator:
    """Extrapolates the iterations of R runs, and takes back those that lower a bound.

    An iteration maps coordinates u to g(u); see :mod:`mixpyro.fitting.coordinates`. Where it converges slowly it is
    all but affine, and Anderson's method finds the combination of the last iterations at which the residual g(u) − u is
    least. Residuals are measured in units of their own changes, so that units of x and y make no difference. The state
    of an extrapolation that is not possible, or has a lower bound, is not used: the next iteration is a plain one from
    the state before. No run depends on those beside it.

    Args:
        mixture: whose formulas are used.
        table: with columns.

    References:
        Walker, Ni (2011), Anderson acceleration for fixed-point iterations, section 2;
        Henderson, Varadhan (2019), Damped Anderson acceleration with restarts and monotonicity control for accelerating
        EM and EM-like algorithms, section 3 (restarts, and steps that lower the bound).
    """

    def __init__(self, mixture: MixtureOfExperts, table: Table) -> None:
        self.mixture, self.table = mixture, table
        self._eps = torch.finfo(table.x.dtype).eps
        self._history: History | None = None
        # Of each run: how many iterations the history has, −1 if it does not know the coordinates of the state.
        self._counts: list[int] = []
        # Whether the last step of each run was extrapolated, and whether it was taken back.
        self._tried: list[bool] = []
        self._rejected: list[bool] = []
        # Where plain steps would have led, in coordinates.
        self._plain: Tensor | None = None
        # The states before a step that is extrapolated.
        self._before: MixtureState | None = None

    def updated(
        self, state: MixtureState, step: EStep | Snapshot, by_gradient: Gradient, paces: Sequence[Pace]
    ) -> MixtureState:
        """Return the states of R runs after an update, extrapolated where a run's pace says so.

        Args:
            state: of R runs.
            step: statistics and responsibilities of R runs; not read of a run whose last step was rejected.
            by_gradient: as for :func:`mixpyro.fitting.em.update`.
            paces: of the runs.
        """
        watched = [pace.is_watched for pace in paces]
        if not any(self._rejected) and not (any(watched) and have_coordinates(self.mixture, step.statistics)):
            self.forget()
            return update(self.mixture, state, step, self.table, by_gradient)
        after, has_estimates = state, reads_rows(self.mixture) or takes_steps(self.mixture)
        if has_estimates and not (self._rejected and all(self._rejected)):
            after = update(self.mixture, state, step, self.table, by_gradient)
        plain = coordinates(self.mixture, step.statistics, after)
        if any(self._rejected):
            assert self._plain is not None
            plain = torch.where(_on(plain, self._rejected), self._plain, plain)
        history = self._appended(plain, watched)
        counts = zip(paces, self._counts, strict=True)
        self._tried = [pace.extrapolates and count > LEAST_DIFFERENCES for pace, count in counts]
        self._rejected, self._plain, self._before, point = [], None, None, plain
        if any(self._tried):
            point = self._extrapolated(history)
            wanted = _on(plain, self._tried) & are_possible(self.mixture, step.statistics, after, point).unsqueeze(-1)
            self._plain, self._before, point = plain, state, torch.where(wanted, point, plain)
        self._history = history._replace(point=point)
        if any(pace.is_checked for pace in paces):
            self._measure(history, paces)
        return at_coordinates(self.mixture, step.statistics, state, point)

    def judged(
        self, state: MixtureState, bounds: Sequence[float], before: Sequence[float]
    ) -> tuple[MixtureState, list[Step]]:
        """Return the states to go on from, and what the last step of each run was.

        Args:
            state: of R runs, after the step.
            bounds: of the runs after the step, in nats; those that are not a number are low.
            before: their bounds before it.
        """
        if not any(self._tried):
            return state, [Step.PLAIN] * len(bounds)
        pairs = zip(self._tried, bounds, before, strict=True)
        self._rejected = [tried and not last >= old for tried, last, old in pairs]
        self._counts = [-1 if one else count for one, count in zip(self._rejected, self._counts, strict=True)]
        if any(self._rejected):
            assert self._before is not None
            state = nested.apply(lambda new, old: torch.where(_on(new, self._rejected), old, new), state, self._before)
        self._before = None
        kinds = {(True, False): Step.EXTRAPOLATED, (True, True): Step.REJECTED, (False, False): Step.PLAIN}
        return state, [kinds[pair] for pair in zip(self._tried, self._rejected, strict=True)]

    @property
    def tried(self) -> list[bool]:
        """Whether the last step of each run was extrapolated."""
        return list(self._tried)

    def lose(self, places: Sequence[int]) -> None:
        """Forget the iterations of some runs, which are no longer where these have led.

        Args:
            places: of the runs on the leading axis.
        """
        if self._counts:
            for place in places:
                self._counts[place] = -1

    def forget(self) -> None:
        """Forget all iterations."""
        self._history, self._plain, self._before = None, None, None
        self._counts, self._tried, self._rejected = [], [], []

    def is_rejected(self, place: int) -> bool:
        """Return whether the last E-step of a run is of a state that was taken back.

        Args:
            place: of the run on the leading axis.
        """
        return bool(self._rejected) and self._rejected[place]

    def narrow(self, kept: Sequence[int]) -> None:
        """Keep some of the runs.

        Args:
            kept: their places on the leading axis.
        """
        self._history = None if self._history is None else nested.select(self._history, kept)
        self._plain = None if self._plain is None else self._plain[list(kept)]
        self._counts = [self._counts[place] for place in kept] if self._counts else []
        self._tried = [self._tried[place] for place in kept] if self._tried else []
        self._rejected = [self._rejected[place] for place in kept] if self._rejected else []

    def state(self) -> list[Any] | None:
        """Return all that another process needs to go on, as tensors and plain values."""
        if self._history is None:
            return None
        return [list(self._history), self._counts, self._tried, self._rejected, self._plain]

    def restore(self, state: list[Any] | None) -> None:
        """Go on where the runs were whose :meth:`state` this is.

        Args:
            state: of as many runs.
        """
        if state is not None:
            tensors, counts, tried, rejected, plain = state
            device = self.table.x.device
            self._history, self._counts = History(*(tensor.to(device) for tensor in tensors)), list(counts)
            self._tried, self._rejected = list(tried), list(rejected)
            self._plain = None if plain is None else plain.to(device)

    def _appended(self, plain: Tensor, watched: Sequence[bool]) -> History:
        """Return the history with the coordinates that an iteration has led to, and count it."""
        history = self._history
        if history is None:
            most = min(MOST_DIFFERENCES, MOST_NUMBERS // (2 * max(1, plain.shape[1])) - 1)
            none = plain.new_zeros(len(plain), 1 + max(1, most), plain.shape[1])
            history, self._counts = History(plain, none, none), [-1] * len(plain)
        if max(self._counts) >= 0:
            pairs = (history.images, plain), (history.residuals, plain - history.point)
            images, residuals = (torch.cat([old[:, 1:], new.unsqueeze(1)], dim=1) for old, new in pairs)
            history = history._replace(images=images, residuals=residuals)
        most = history.images.shape[1]
        self._counts = [min(count + 1, most) if one else -1 for count, one in zip(self._counts, watched, strict=True)]
        return history

    def _extrapolated(self, history: History) -> Float[Tensor, "R P"]:
        """Return Anderson's extrapolation; Walker, Ni (2011), eq. 2.2."""
        images, residuals, units = self._differences(history)
        shares = self._fitted(residuals / units, (history.residuals[:, -1:] / units).mT)
        return history.images[:, -1] - (shares * images).sum(1)

    def _measure(self, history: History, paces: Sequence[Pace]) -> None:
        """Tell the paces that are checked the slowest rate of the last iterations: their largest Ritz value."""
        images, residuals, units = self._differences(history)
        inputs = (images - residuals) / units
        reduced = self._fitted(inputs, (images / units).mT).nan_to_num(0.0, 0.0, 0.0)
        rates = torch.linalg.eigvals(reduced.cpu()).real.amax(-1)
        for pace, rate in zip(paces, rates.tolist(), strict=True):
            if pace.is_checked:
                # Gains are quadratic in the distance from the optimum.
                pace.see_rate(rate * abs(rate))

    def _differences(self, history: History) -> tuple[Tensor, Tensor, Tensor]:
        """Return differences of images and of residuals [R, M, P], zero where unknown, and units [R, 1, P]."""
        images, residuals = history.images.diff(dim=1), history.residuals.diff(dim=1)
        n_differences = images.shape[1]
        first = torch.tensor([n_differences + 1 - count for count in self._counts], device="cpu")
        known = torch.arange(n_differences, device="cpu") >= first.unsqueeze(-1)
        known = known.to(images.device, non_blocking=True).unsqueeze(-1)
        images, residuals = (torch.where(known, one, 0.0) for one in (images, residuals))
        # In units of its changes, each coordinate counts as much as any other; below rounding it does not count.
        rounding = self._eps * history.images[:, -1:].abs()
        units = (residuals.square().sum(1, keepdim=True) + rounding.square()).sqrt().clamp_min(SMALLEST_UNIT)
        return images, residuals, units

    def _fitted(self, rows: Float[Tensor, "R M P"], targets: Float[Tensor, "R P T"]) -> Float[Tensor, "R M T"]:
        """Return the shares of rows whose sums are nearest to targets, zero of a row of zeros."""
        lengths = rows.norm(dim=-1, keepdim=True)
        lengths = torch.where(lengths > 0, lengths, 1.0)
        rows = rows / lengths
        identity = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
        factor, _ = torch.linalg.cholesky_ex(rows @ rows.mT + RIDGE * self._eps * identity)
        return torch.cholesky_solve(rows @ targets, factor) / lengths


def _on(like: Tensor, runs: Sequence[bool]) -> Bool[Tensor, " R ..."]:
    """Return truth values of runs as a tensor that broadcasts to another, whose first axis is that of the runs."""
    values = torch.tensor(runs, device="cpu").to(like.device, non_blocking=True)
    return values.reshape(-1, *(1 for _ in like.shape[1:]))
