"""Linear response in closed form: a Dirichlet gate and conjugate experts whose statistics are sums over rows."""

import torch
from torch import Tensor

from mixpyro.arguments.signals import pass_on
from mixpyro.conjugate.responses.base import Features, Response
from mixpyro.experts.gaussian import GaussianExperts
from mixpyro.experts.linear import LinearExperts
from mixpyro.fitting.em import Statistics
from mixpyro.fitting.table import Table
from mixpyro.gates.dirichlet import DirichletGate
from mixpyro.intervals.responses.matrices import Matrices, factor_of
from mixpyro.intervals.responses.passes import Passes, Point, joined
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics import nested
from mixpyro.numerics.anderson import Anderson
from mixpyro.shapes import Value

# Slope of the bound in posterior standard deviations at which the optimum counts as reached. Means are off by as much.
TIGHT = 1e-12
# Slope that rounding may leave: below it a step that gains nothing ends the search.
ROUNDING = 1e-6
# Steps that are tried to reach the optimum; one that does not shorten the slope to this share needs new matrices.
MOST_STEPS = 100
SLOW = 0.1
# Where S takes more multiplications than this, about a second, a slope of this size is enough, and S may be that of a
# point nearby. A posterior standard deviation changes a covariance by its skewness, about one over the square root of
# the objects of a component; it may change by this share of its value.
MANY, TIGHT_OF_MANY, CHANGE_OF_MANY = 10**9, 1e-7, 1e-4
# Most steps of accelerated EM, each an iteration's time, before S is computed, and how much farther than the first of
# them the optimum may be.
MOST_ACCELERATED, UNKNOWN_RATIO = 8, 10.0
# Iterations of EM that follow a step by which the bound has fallen.
N_EM = 10
# Relative error of a sum of log evidences, by which a bound may fall.
RELATIVE_ERROR = 1e-13


class ClosedForm:
    """A Dirichlet gate and linear or Gaussian experts at a point, and their search for the optimum nearby.

    The step to the optimum is Newton's. In natural parameters λ it is (I − M V)⁻¹ (λ_EM − λ). In coordinates, where the
    complete data have unit information, λ_EM − λ is the slope of the bound and the step (I − S)⁻¹ slope.

    Args:
        mixture: in float64; the search moves it.
        table: the rows.
    """

    # Of more, the few matrices [P, P] would take several gigabytes.
    most_coordinates = 10_000

    def __init__(self, mixture: MixtureOfExperts, table: Table) -> None:
        self.mixture, self.passes = mixture, Passes(mixture, table)
        self.gate, self.experts = self.passes.gate, self.passes.experts

    @staticmethod
    def suits(mixture: MixtureOfExperts) -> bool:
        """Return whether a mixture has the closed form.

        Args:
            mixture: any.
        """
        gate, experts = mixture.gate, mixture.experts
        return (
            type(mixture) is MixtureOfExperts
            and type(gate) is DirichletGate
            and gate.concentration_prior is None
            and not gate.batch_shape
            and type(experts) in (LinearExperts, GaussianExperts)
        )

    @torch.no_grad()
    def matrices(self) -> Matrices:
        """Find the optimum, and return its matrices.

        Raises:
            ValueError: if there is no strict optimum.
        """
        start = self._quantities()
        missing, steepness = self._search()
        return Matrices(
            estimates=self._quantities(),
            loadings=self._loadings(),
            beyond=torch.block_diag(*(response.covariance_beyond for response in self.passes.responses)),
            missing=missing,
            priors=self._priors(),
            scores=self.passes.scores,
            slope=steepness,
            fitted=start,
        )

    @property
    def n_coordinates(self) -> int:
        """P."""
        return self.passes.n_coordinates

    def _search(self) -> tuple[Tensor, float]:
        """Move to the optimum, and return S there and the slope that is left."""
        if self.passes.n_operations < MANY:
            return self._approach(*self.passes.point_and_missing(), tight=TIGHT, near=TIGHT)
        near = CHANGE_OF_MANY * (len(self.passes.table.x) / self.mixture.n_components) ** 0.5
        self._accelerate(near)
        return self._approach(*self.passes.point_and_missing(), tight=TIGHT_OF_MANY, near=near)

    def _accelerate(self, near: float) -> None:
        """Move by accelerated EM, until the optimum should be so many posterior standard deviations away."""
        point, acceleration, ratio = self.passes.point(), Anderson(), UNKNOWN_RATIO
        for _ in range(MOST_ACCELERATED):
            step, before = acceleration.step(point.slope), self.mixture.state()
            if not self._move(point, step) or float(step.abs().max()) * ratio < near:
                return
            after = self.passes.point()
            if not _has_risen(point, after):
                self.mixture.hold(before)
                return
            ratio, point = after.steepness / point.steepness, after

    def _approach(self, point: Point, missing: Tensor, *, tight: float, near: float) -> tuple[Tensor, float]:
        """Move from a point to the optimum, and return S near it and the slope that is left."""
        since = 0.0  # posterior standard deviations that the point has moved from where S was computed
        for _ in range(MOST_STEPS):
            if point.steepness < tight:
                break
            direction = self._direction(missing, point)
            after = None if direction is None else self._newton(point, direction)
            if after is None or direction is None:
                self._em()
                point, missing = self.passes.point_and_missing()
                since = 0.0
                continue
            if point.steepness < ROUNDING and after.steepness > 0.5 * point.steepness:
                point = after
                break
            since += float(direction.abs().max())
            if after.steepness > max(ROUNDING, SLOW * point.steepness):
                after, missing = self.passes.point_and_missing()
                since = 0.0
            point = after
        if since > near:
            point, missing = self.passes.point_and_missing()
        return missing, point.steepness

    def _direction(self, missing: Tensor, point: Point) -> Tensor | None:
        """Return (I − S)⁻¹ slope; None where the matrix is not positive definite."""
        try:
            return torch.cholesky_solve(point.slope.unsqueeze(-1), factor_of(missing)).squeeze(-1)
        except ValueError as error:
            pass_on(error)
            return None

    def _newton(self, point: Point, direction: Tensor) -> Point | None:
        """Move the natural parameters along a direction; None, and back where it was, if the bound has fallen."""
        before = self.mixture.state()
        if self._move(point, direction):
            after = self.passes.point()
            if _has_risen(point, after):
                return after
        self.mixture.hold(before)
        return None

    def _move(self, point: Point, direction: Tensor) -> bool:
        """Move the natural parameters along a direction, if they then are those of rows."""
        statistics = nested.add(point.beyond, self._statistics_of_sums(direction))
        if not bool((statistics.gate.counts >= 0.0).all() and (statistics.experts.r >= 0.0).all()):
            return False
        self._hold(statistics)
        return True

    def _em(self) -> None:
        """Take a few iterations of EM."""
        for _ in range(N_EM):
            self._hold(self.passes.point().statistics)

    def _hold(self, statistics: Statistics) -> None:
        """Set both posteriors to those that statistics lead to."""
        self.gate.hold_posterior(self.gate.prior.updated(statistics.gate))
        after: Value = self.experts.prior.updated(statistics.experts)
        self.experts.hold_posterior(after)

    def _statistics_of_sums(self, sums: Tensor) -> Statistics:
        """Return the statistics that have given sums of features [P]."""
        gate, experts = self.passes.responses
        common, own = sums.split([gate.n_common + experts.n_common, experts.n_components * experts.n_own])
        of_gate, of_experts = common.split([gate.n_common, experts.n_common])
        nothing = own.new_zeros(gate.n_components, 0)
        return Statistics(
            gate.statistics(Features(of_gate, nothing)),
            experts.statistics(Features(of_experts, own.unflatten(0, (experts.n_components, experts.n_own)))),
        )

    def _priors(self) -> dict[str, Tensor]:
        """Return the features of the log densities of both priors."""
        responses = self.passes.responses
        found = {}
        for number, (name, part) in enumerate((("gate", self.gate), ("experts", self.experts))):
            own = [_nothing(response) for response in responses]
            own[number] = responses[number].of_prior(part.prior)
            found[name] = joined(*own).flat
        return found

    def _loadings(self) -> Tensor:
        """Return Cov_q(g, u) of the quantities of gate and experts [Q, P]."""
        return torch.block_diag(*(response.loadings for response in self.passes.responses))

    def _quantities(self) -> Tensor:
        """Return E_q[g] [Q]."""
        return torch.cat([response.quantities for response in self.passes.responses])


def _has_risen(before: Point, after: Point) -> bool:
    """Return whether the bound has not fallen by more than rounding."""
    return after.bound >= before.bound - RELATIVE_ERROR * (1.0 + abs(before.bound))


def _nothing(response: Response) -> Features:
    """Return sums of features over no rows."""
    like = response.quantities
    return Features(like.new_zeros(response.n_common), like.new_zeros(response.n_components, response.n_own))
