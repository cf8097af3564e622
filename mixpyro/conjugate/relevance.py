"""The posterior of a linear regression with a learnt prior precision for each column, as a value."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from mixpyro.conjugate.gamma import Gamma
from mixpyro.conjugate.normal_gamma import LinearStatistics, NormalGamma
from mixpyro.numerics import nested

# Most sweeps of an update over the two factors. The precision of a column without effect takes many to converge, and
# the next iteration of a fit continues from where this one ended.
MOST_SWEEPS = 3
# A run stops once no column's precision has changed by more than this share of its value.
TOLERANCE = 1e-10


class Relevance(NamedTuple):
    """q(w, τ) q(λ) of every component, float64, with any leading axes."""

    regression: NormalGamma
    column_precision: Tensor  # E λ [..., K, D], for the last D of the E columns of the design

    @property
    def n_parameters(self) -> int:
        """Number of coefficients and noises; precisions of columns are not counted."""
        return self.regression.n_parameters

    def statistics_beyond(self, prior: "RelevancePrior") -> LinearStatistics:
        """Return the statistics that lead from a prior to this posterior at its E λ.

        Args:
            prior: without leading axes.
        """
        return self.regression.statistics_beyond(prior.given(self.column_precision))

    def kl(self, prior: "RelevancePrior") -> Float[Tensor, "*R"]:
        """Return KL(q(w, τ) q(λ) ‖ p(w, τ, λ)) in nats, summed over components; above zero even without data.

        Args:
            prior: without leading axes.
        """
        columns, n_outputs = prior.columns_with_mean(self.column_precision), self.regression.mean.shape[-2]
        # The regression's divergence is taken at E λ: its log determinant has log E λ where E log λ belongs.
        excess = 0.5 * n_outputs * (self.column_precision.log() - columns.expected_log)
        of_columns = (excess + columns.kl(prior.columns)).sum((-2, -1))
        return self.regression.kl(prior.given(self.column_precision)) + of_columns


class RelevancePrior(NamedTuple):
    """w | τ, λ ~ Normal(mean, (τ (Λ + diag(0, λ)))⁻¹), τ ~ Gamma, λ ~ Gamma, for every component, float64."""

    regression: NormalGamma  # its precision Λ [K, E, E] without that of the last D columns
    columns: Gamma  # p(λ), a shape and a rate, or D rates

    def given(self, column_precision: Tensor) -> NormalGamma:
        """Return the prior of w and τ at precisions of the columns.

        Args:
            column_precision: λ [..., K, D].
        """
        n_others = self.regression.mean.shape[-1] - column_precision.shape[-1]
        diagonal = pad(column_precision, (n_others, 0))
        return self.regression._replace(precision=self.regression.precision + diagonal.diag_embed())

    def columns_with_mean(self, column_precision: Tensor) -> Gamma:
        """Return q(λ) of a given mean; its shape is c₀ + ½ P whatever the data.

        Args:
            column_precision: E λ [..., K, D].
        """
        shape = self.columns.shape + 0.5 * self.regression.mean.shape[-2]
        return Gamma(shape, shape / column_precision)

    def updated(self, seen: LinearStatistics, before: Relevance, *, n_sweeps: int = MOST_SWEEPS) -> Relevance:
        """Return the posterior after sweeps over q(λ) and q(w, τ), the latter last.

        Every run of the leading axes stops by itself, once its λ no longer change.

        Args:
            seen: sums over the objects, with any leading axes.
            before: gives the E λ to start from, with the same leading axes.
            n_sweeps: most sweeps.
        """
        q = Relevance(self.given(before.column_precision).updated(seen), before.column_precision)
        moving = torch.ones_like(before.column_precision[..., 0, 0], dtype=torch.bool)
        all_move = True
        for _ in range(n_sweeps):
            after = self._swept(q, seen)
            change = (after.column_precision - q.column_precision).abs()
            moved = (change > TOLERANCE * q.column_precision).flatten(-2).any(-1)
            q = after if all_move else _of_moving(moving, after, q)
            moving = moving & moved
            # On a GPU a sweep too many is cheaper than to wait for the answer.
            all_move = moving.is_cpu and bool(moving.all())
            if moving.is_cpu and not all_move and not bool(moving.any()):
                break
        return q

    def _swept(self, q: Relevance, seen: LinearStatistics) -> Relevance:
        """Return both factors after one sweep."""
        column_precision = self._optimal_precisions(q.regression, q.column_precision.shape[-1])
        return Relevance(self.given(column_precision).updated(seen), column_precision)

    def _optimal_precisions(self, q: NormalGamma, n_columns: int) -> Tensor:
        """Return E λ = (c₀ + ½ P) / (d₀ + ½ Σₚ E τₚ (wₚ − m₀ₚ)²); Bishop (2006), eq. 10.93 to 10.95."""
        n_outputs = q.mean.shape[-2]
        squares = (q.noise.mean.unsqueeze(-1) * (q.mean - self.regression.mean).square()).sum(-2)
        variances = q.whitening.square().sum(-2)
        expected = (squares + n_outputs * variances)[..., -n_columns:]
        return (self.columns.shape + 0.5 * n_outputs) / (self.columns.rate + 0.5 * expected)


def _of_moving(moving: Tensor, after: Relevance, before: Relevance) -> Relevance:
    """Return the posteriors of runs that move as they are after a sweep, those of others as they were before."""
    return nested.apply(lambda new, old: torch.where(_expanded(moving, new), new, old), after, before)


def _expanded(runs: Tensor, like: Tensor) -> Tensor:
    """Return a tensor over runs with axes of length one behind, as many as another tensor has."""
    return runs.reshape(*runs.shape, *(1 for _ in range(like.ndim - runs.ndim)))
