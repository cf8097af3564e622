"""The log likelihood of components of a family of densities, weighted by responsibilities."""

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.experts.families import Family
from mixpyro.numerics.few_parameters import maximised_few
from mixpyro.numerics.linear_predictors import Curvature, Predictors
from mixpyro.shapes import Responsibilities

# Newton steps in scales between two in the coefficients, with which they take turns.
N_SCALE_STEPS = 1


class WeightedLikelihood:
    """Σᵢ rᵢₖ log p(yᵢ | ηᵢₖ): the :class:`~mixpyro.numerics.linear_predictors.RowTerms` of K components.

    Where a row has no part in a component, its likelihood there may overflow, and counts as zero.

    Args:
        family: of the density p.
        y: outputs [N, P].
        exposure: [N, 1, 1].
        responsibilities: r [N, K], non-negative.
        scale: σ [K, S].
    """

    def __init__(
        self, family: Family, y: Tensor, exposure: Tensor, responsibilities: Responsibilities, scale: Tensor
    ) -> None:
        self.family = family
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
        return self._values(eta, self.scale)

    def _values(self, eta: Predictors, scale: Float[Tensor, "K S"]) -> Float[Tensor, " B"]:
        """Return the sums at other scales."""
        log_prob = self.family.beyond_saturated(self.y, eta, self.exposure, scale)
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
        diagonal, factor = self.family.observed_curvature(self.y, eta, self.exposure, self.scale)
        return score, Curvature(_weighted(diagonal, r), None if factor is None else _weighted(factor, r.sqrt()))

    @property
    def counts(self) -> Float[Tensor, " K"]:
        """Σ r."""
        return self.responsibilities.sum(0)

    def estimate_scale(self, eta: Predictors, smallest: Float[Tensor, " P"]) -> None:
        """Set the scales to their maximum, or nearer to it; a component without objects keeps its own.

        Args:
            eta: predictors η [N, K, C].
            smallest: lower limit of a noise [P].
        """
        found = self.family.scale_by_moments(self.y, eta, self.responsibilities)
        if found is None:
            limits = self.family.scale_limits(self.y, self.responsibilities.sum(-1), smallest)
            low, high = (limit.log().expand(self.scale.shape) for limit in limits)
            found = maximised_few(
                lambda log_scale: self._values(eta, log_scale.exp()), self.scale.log(), low, high, n_steps=N_SCALE_STEPS
            )
            found = found.exp()
        else:
            found = found.clamp_min(smallest)
        self.scale = torch.where((self.counts > 0).unsqueeze(-1), found, self.scale)


def _weighted(values: Tensor, weights: Tensor) -> Tensor:
    """Product of both, zero where the weight is."""
    return torch.where(weights != 0, weights * values, 0.0)
