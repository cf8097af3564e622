"""The log likelihood of components of an exponential family, weighted by responsibilities."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.experts.families import Family
from mixpyro.numerics.linear_predictors import Curvature, Predictors
from mixpyro.shapes import Responsibilities


class WeightedLikelihood:
    """Σᵢ rᵢₖ log p(yᵢ | ηᵢₖ): the :class:`~mixpyro.numerics.linear_predictors.RowTerms` of K components.

    Where a row has no part in a component, its likelihood there may overflow, and counts as zero.

    Args:
        family: of the density p.
        y: outputs [N, P].
        exposure: [N, 1, 1].
        responsibilities: r [N, K], non-negative.
        scale: noise σ [K, P].
        scale_sets: number of the set of every component [K], if components of a set share the noise.
    """

    def __init__(
        self,
        family: Family,
        y: Tensor,
        exposure: Tensor,
        responsibilities: Responsibilities,
        scale: Tensor,
        *,
        scale_sets: Sequence[int] | None = None,
    ) -> None:
        self.family, self.scale_sets = family, scale_sets
        self.y, self.exposure, self.scale = y.double(), exposure.double(), scale.double()
        self.responsibilities = responsibilities.double()
        self.saturated = family.saturated(self.y, self.exposure)

    def values(self, eta: Predictors) -> Float[Tensor, " B"]:
        """Return the sums.

        Args:
            eta: predictors η [N, K, C].

        Returns:
            [K], in nats.
        """
        log_prob = self.family.beyond_saturated(self.y, eta, self.exposure, self.scale)
        if self.saturated is not None:
            log_prob = self.saturated + log_prob
        return _weighted(log_prob, self.responsibilities).sum(0)

    def derivatives(self, eta: Predictors) -> tuple[Predictors, Curvature]:
        """Return r times the score, and r times the curvature of the density.

        Args:
            eta: predictors η [N, K, C].
        """
        r = self.responsibilities.unsqueeze(-1)
        score = _weighted(self.family.score(self.y, eta, self.exposure, self.scale), r)
        diagonal, factor = self.family.curvature(eta, self.exposure, self.scale)
        return score, Curvature(_weighted(diagonal, r), None if factor is None else _weighted(factor, r.sqrt()))

    def estimate_scale(self, eta: Predictors, smallest: Float[Tensor, " P"]) -> None:
        """Set σ² to Σ r (y − η)² / Σ r; a component without objects keeps its own.

        Args:
            eta: predictors η [N, K, P] of a Gaussian.
            smallest: lower limit of σ [P].
        """
        r = self.responsibilities.unsqueeze(-1)
        counts = self._in_sets(r.sum(0))
        variance = self._in_sets((r * (self.y.unsqueeze(1) - eta).square()).sum(0)) / counts
        self.scale = torch.where(counts > 0, variance.sqrt().clamp_min(smallest), self.scale)

    def _in_sets(self, sums: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        """Return of every component the sum over its set."""
        if self.scale_sets is None:
            return sums
        sets = torch.tensor(self.scale_sets, device=sums.device)
        return torch.zeros_like(sums).index_add_(0, sets, sums)[sets]


def _weighted(values: Tensor, weights: Tensor) -> Tensor:
    """Product of both, zero where the weight is."""
    return torch.where(weights != 0, weights * values, 0.0)
