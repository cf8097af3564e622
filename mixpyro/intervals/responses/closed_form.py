"""Linear response in closed form: a Dirichlet gate and conjugate experts whose statistics are sums over rows."""

from collections.abc import Iterator
from typing import NamedTuple, cast

import torch
from torch import Tensor

from mixpyro.conjugate.responses.base import Features, Response
from mixpyro.experts.gaussian import GaussianExperts
from mixpyro.experts.linear import LinearExperts
from mixpyro.fitting.em import Statistics
from mixpyro.fitting.table import Table
from mixpyro.gates.dirichlet import DirichletGate
from mixpyro.intervals.responses.information import add_missing, scores_of, symmetric
from mixpyro.intervals.responses.matrices import Matrices, factor_of
from mixpyro.intervals.responses.parts import PosteriorPart
from mixpyro.intervals.responses.rows import Block, blocks_of, evidence_of
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics import nested
from mixpyro.shapes import Value

# Slope of the bound in posterior standard deviations at which the optimum counts as reached. Means are off by as much.
TIGHT = 1e-12
# Slope that rounding may leave: below it a step that gains nothing ends the search.
ROUNDING = 1e-6
# Steps that are tried to reach the optimum; one that does not shorten the slope to this share needs new matrices.
MOST_STEPS = 100
SLOW = 0.1
# Of so many rows a step takes seconds, and a slope of this size is enough: their covariance changes by a share of it.
MANY_ROWS, TIGHT_OF_MANY = 20_000, 1e-7
# Iterations of EM that follow a step by which the bound has fallen.
N_EM = 10
# Relative error of a sum of log evidences, by which a bound may fall.
RELATIVE_ERROR = 1e-13


class Point(NamedTuple):
    """A point of the search, and where EM goes from there."""

    statistics: Statistics  # of the rows, under the responsibilities at the point
    beyond: Statistics  # what leads from the priors to the point
    bound: float  # nats
    slope: Tensor  # derivatives of the bound in the coordinates [P]

    @property
    def steepness(self) -> float:
        """The largest derivative, in posterior standard deviations."""
        return float(self.slope.abs().max())


class ClosedForm:
    """A Dirichlet gate and linear or Gaussian experts at a point, and their search for the optimum nearby.

    The step to the optimum is Newton's. In natural parameters λ it is (I − M V)⁻¹ (λ_EM − λ) = (I + M Σ)(λ_EM − λ): the
    update by the statistics under responsibilities moved along Σ (λ_EM − λ), so no matrix but I − S is solved with.

    Args:
        mixture: in float64; the search moves it.
        table: the rows.
    """

    def __init__(self, mixture: MixtureOfExperts, table: Table) -> None:
        self.mixture, self.table = mixture, table
        self.gate = cast(DirichletGate, mixture.gate)
        self.experts = cast(LinearExperts | GaussianExperts, mixture.experts)

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
            beyond=torch.block_diag(*(response.covariance_beyond for response in self._responses)),
            missing=missing,
            priors=self._priors(),
            scores=self._scores,
            slope=steepness,
            fitted=start,
        )

    @property
    def n_coordinates(self) -> int:
        """P."""
        return sum(response.n_common + response.n_components * response.n_own for response in self._responses)

    def _search(self) -> tuple[Tensor, float]:
        """Move to the optimum, and return S there and the slope that is left."""
        point = self._point()
        missing, tight = self._missing(), TIGHT if len(self.table.x) < MANY_ROWS else TIGHT_OF_MANY
        since = 0.0  # posterior standard deviations that the point has moved from where S was computed
        for _ in range(MOST_STEPS):
            if point.steepness < tight:
                break
            direction = self._direction(missing, point)
            after = None if direction is None else self._newton(point, direction)
            if after is None or direction is None:
                after = self._em()
                missing, since = self._missing(), 0.0
            elif point.steepness < ROUNDING and after.steepness > 0.5 * point.steepness:
                break
            else:
                since += float(direction.abs().max())
                if after.steepness > max(ROUNDING, SLOW * point.steepness):
                    missing, since = self._missing(), 0.0
            point = after
        return (missing if since < tight else self._missing()), point.steepness

    def _direction(self, missing: Tensor, point: Point) -> Tensor | None:
        """Return (I − S)⁻¹ slope; None where the matrix is not positive definite."""
        try:
            return torch.cholesky_solve(point.slope.unsqueeze(-1), factor_of(missing)).squeeze(-1)
        except ValueError:
            return None

    def _newton(self, point: Point, direction: Tensor) -> Point | None:
        """Move the natural parameters along a direction; None, and back where it was, if the bound has fallen."""
        statistics = nested.add(point.beyond, self._statistics_of_sums(direction))
        if not bool((statistics.gate.counts >= 0.0).all() and (statistics.experts.r >= 0.0).all()):
            return None
        before = self.mixture.state()
        self._hold(statistics)
        after = self._point()
        if after.bound >= point.bound - RELATIVE_ERROR * (1.0 + abs(point.bound)):
            return after
        self.mixture.hold(before)
        return None

    def _em(self) -> Point:
        """Take a few iterations of EM."""
        point = self._point()
        for _ in range(N_EM):
            self._hold(point.statistics)
            point = self._point()
        return point

    def _hold(self, statistics: Statistics) -> None:
        """Set both posteriors to those that statistics lead to."""
        self.gate.hold_posterior(self.gate.prior.updated(statistics.gate))
        after: Value = self.experts.prior.updated(statistics.experts)
        self.experts.hold_posterior(after)

    def _point(self) -> Point:
        """Return statistics, bound and slope where the mixture is."""
        gate, experts = self.gate, self.experts
        total, evidence = None, 0.0
        for block in self._blocks(width=experts.n_components * (experts.n_features + experts.n_outputs + 1)):
            r, log_evidence = evidence_of(block)
            evidence = evidence + float((log_evidence * block.weights).sum())
            found = self._statistics(block, r * block.weights)
            total = found if total is None else nested.add(total, found)
        assert total is not None
        beyond = Statistics(
            gate.posterior.statistics_beyond(gate.prior), experts.posterior.statistics_beyond(experts.prior)
        )
        rest = nested.apply(torch.sub, total, beyond)
        of_gate, of_experts = (response.totals(part) for response, part in zip(self._responses, rest, strict=True))
        bound = evidence - float(gate.kl_divergence() + experts.kl_divergence())
        return Point(total, beyond, bound, _joined(of_gate, of_experts).flat)

    def _statistics_of_sums(self, sums: Tensor) -> Statistics:
        """Return the statistics that have given sums of features [P]."""
        gate, experts = self._responses
        common, own = sums.split([gate.n_common + experts.n_common, experts.n_components * experts.n_own])
        of_gate, of_experts = common.split([gate.n_common, experts.n_common])
        nothing = own.new_zeros(gate.n_components, 0)
        return Statistics(
            gate.statistics(Features(of_gate, nothing)),
            experts.statistics(Features(of_experts, own.unflatten(0, (experts.n_components, experts.n_own)))),
        )

    def _missing(self) -> Tensor:
        """Return S where the mixture is."""
        size = self.n_coordinates
        total = torch.zeros(size, size, dtype=torch.float64, device=self.table.x.device)
        for block, features in self._features():
            add_missing(total, features, evidence_of(block)[0], block.weights)
        return symmetric(total)

    def _scores(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield the scores of blocks of rows."""
        with torch.no_grad():
            for block, features in self._features():
                yield block.rows, scores_of(features, evidence_of(block)[0], block.weights)

    def _priors(self) -> dict[str, Tensor]:
        """Return the features of the log densities of both priors."""
        responses = self._responses
        found = {}
        for number, (name, part) in enumerate((("gate", self.gate), ("experts", self.experts))):
            own = [_nothing(response) for response in responses]
            own[number] = responses[number].of_prior(part.prior)
            found[name] = _joined(*own).flat
        return found

    def _loadings(self) -> Tensor:
        """Return Cov_q(g, u) of the quantities of gate and experts [Q, P]."""
        return torch.block_diag(*(response.loadings for response in self._responses))

    def _features(self) -> Iterator[tuple[Block, Features]]:
        """Yield blocks of rows with their features."""
        responses = self._responses
        for block in self._blocks(width=self.n_coordinates):
            gate, experts = (response.features(block.columns) for response in responses)
            yield block, _joined(gate, experts)

    def _blocks(self, width: int) -> Iterator[Block]:
        """Yield blocks of rows."""
        return blocks_of(self.mixture, self.table, width=width)

    def _statistics(self, block: Block, weighted: Tensor) -> Statistics:
        """Return sums over a block of rows; weighted responsibilities are [K, B]."""
        of_gate = self.gate.statistics_of(block.gate_x, weighted.mT)
        return Statistics(of_gate, self.experts.statistics_of(block.columns, weighted))

    def _quantities(self) -> Tensor:
        """Return E_q[g] [Q]."""
        return torch.cat([response.quantities for response in self._responses])

    @property
    def _responses(self) -> list[Response]:
        """Linear responses of gate and experts where they are."""
        parts = (PosteriorPart("gate", self.gate), PosteriorPart("experts", self.experts))
        return [part.response for part in parts]


def _nothing(response: Response) -> Features:
    """Return sums of features over no rows."""
    like = response.quantities
    return Features(like.new_zeros(response.n_common), like.new_zeros(response.n_components, response.n_own))


def _joined(gate: Features, experts: Features) -> Features:
    """Return the features of gate and experts together; the gate's are all in common."""
    axis = -2 if gate.common.ndim == 3 else -1
    return Features(torch.cat([gate.common, experts.common], dim=axis), experts.own)
