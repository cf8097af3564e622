"""Passes over the rows of a Dirichlet gate and conjugate experts whose statistics are sums over rows."""

from collections.abc import Iterator
from functools import cached_property
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
from mixpyro.intervals.responses.moments import N_SAMPLED, Frame, SharedMoments
from mixpyro.intervals.responses.parts import PosteriorPart
from mixpyro.intervals.responses.rows import Block, blocks_of, evidence_of
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics import nested
from mixpyro.numerics.quartics import number_of_quartics
from mixpyro.numerics.segments import Grouped

# Largest error of S, in units of the information of the complete data; with more, S is computed from features.
PRECISION = 1e-11


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


class Passes:
    """Sums over all rows at the point where a mixture is.

    Args:
        mixture: in float64.
        table: the rows.
    """

    def __init__(self, mixture: MixtureOfExperts, table: Table) -> None:
        self.mixture, self.table = mixture, table
        self.gate = cast(DirichletGate, mixture.gate)
        self.experts = cast(LinearExperts | GaussianExperts, mixture.experts)

    def point(self) -> Point:
        """Return statistics, bound and slope."""
        return self._pass(None)

    def point_and_missing(self) -> tuple[Point, Tensor]:
        """Return the same, and the missing information S [P, P]."""
        moments = self._moments()
        point = self._pass(moments)
        if moments is not None:
            missing, error = moments.missing()
            if error < PRECISION:
                return point, missing
        return point, self._by_features()

    @property
    def n_operations(self) -> int:
        """Multiplications that S takes, about."""
        n_pairs = self.experts.n_components * (self.experts.n_components - 1) // 2
        n_own = self.responses[-1].n_own
        return len(self.table.x) * n_pairs * min(number_of_quartics(self._n_variables), n_own**2)

    @property
    def n_coordinates(self) -> int:
        """P."""
        return sum(response.n_common + response.n_components * response.n_own for response in self.responses)

    @property
    def responses(self) -> list[Response]:
        """Linear responses of gate and experts."""
        parts = (PosteriorPart("gate", self.gate), PosteriorPart("experts", self.experts))
        return [part.response for part in parts]

    def scores(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield blocks of rows, and the derivatives of their weighted log evidences [B, P]."""
        with torch.no_grad():
            for block, features in self._features():
                yield block.rows, scores_of(features, evidence_of(block)[0], block.weights)

    def _pass(self, moments: SharedMoments | None) -> Point:
        """Return the point, and add all rows to the moments."""
        gate, experts = self.gate, self.experts
        total, evidence = None, 0.0
        for block in self._blocks(width=experts.n_components):
            r, log_evidence = evidence_of(block)
            evidence = evidence + float((log_evidence * block.weights).sum())
            weighted = r * block.weights
            of_gate = gate.statistics_of(block.gate_x, weighted.mT)
            found = Statistics(of_gate, experts.sums_of_objects(block.columns, weighted))
            total = found if total is None else nested.add(total, found)
            if moments is not None:
                moments.add(block.columns, r, block.weights)
        assert total is not None
        beyond = Statistics(
            gate.posterior.statistics_beyond(gate.prior), experts.posterior.statistics_beyond(experts.prior)
        )
        rest = nested.apply(torch.sub, total, beyond)
        sums = joined(*(response.totals(part) for response, part in zip(self.responses, rest, strict=True)))
        bound = evidence - float(gate.kl_divergence() + experts.kl_divergence())
        return Point(total, beyond, bound, sums.flat)

    def _moments(self) -> SharedMoments | None:
        """Return moments without any rows; None where products of features take less."""
        responses = self.responses
        # Moments are of rows: products of features sum over a group first.
        if self.table.segments is not None:
            return None
        if self._frame is None or number_of_quartics(self._n_variables) > responses[-1].n_own ** 2:
            return None
        return SharedMoments(self._frame, responses)

    @property
    def _n_variables(self) -> int:
        """Number of columns of x and y, and one."""
        return 1 + self.experts.n_features + self.experts.n_outputs

    @cached_property
    def _frame(self) -> Frame | None:
        """Coordinates from rows that are evenly spaced; None without rows that count among them."""
        table, n_rows = self.table, len(self.table.x)
        some = torch.arange(0, n_rows, max(1, n_rows // N_SAMPLED), device=table.x.device)
        columns = self.experts.columns(table.x[some].double(), table.y[some].double())
        weights = columns.new_ones(len(some)) if table.weights is None else table.weights[some].double()
        if not bool((weights > 0.0).any()):
            return None
        return Frame.of(columns, weights, has_constant=self.responses[-1].has_constant)

    def _by_features(self) -> Tensor:
        """Return S from products of features."""
        size = self.n_coordinates
        total = torch.zeros(size, size, dtype=torch.float64, device=self.table.x.device)
        for block, features in self._features():
            add_missing(total, features, evidence_of(block)[0], block.weights)
        return symmetric(total)

    def _features(self) -> Iterator[tuple[Block, Features]]:
        """Yield blocks of rows with their features."""
        gate, experts = self.responses
        for block in self._blocks(width=self.n_coordinates):
            columns = block.columns
            if not isinstance(columns, Grouped):
                yield block, joined(gate.features(columns), experts.features(columns))
                continue
            of_rows = experts.features(columns.columns)
            of_groups = Features(*(columns.segments.sum(values) for values in of_rows))
            # Those of the gate are the same for all objects, which may be more than rows: a known one needs no y.
            like_objects = columns.columns[:, :1].expand(-1, len(columns.segments))
            yield block, joined(gate.features(like_objects), of_groups)

    def _blocks(self, width: int) -> Iterator[Block]:
        """Yield blocks of rows."""
        return blocks_of(self.mixture, self.table, width=width)


def joined(gate: Features, experts: Features) -> Features:
    """Return the features of gate and experts together; the gate's are all in common.

    Args:
        gate: of rows, or sums of them.
        experts: likewise.
    """
    axis = -2 if gate.common.ndim == 3 else -1
    return Features(torch.cat([gate.common, experts.common], dim=axis), experts.own)
