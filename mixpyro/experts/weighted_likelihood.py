"""The log likelihood of components of a family of densities, weighted by responsibilities."""

import functools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.experts.families import Family
from mixpyro.numerics.curvature import Curvature, Predictors
from mixpyro.numerics.few_parameters import derivatives, maximised_few
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
        scale_sets: number of the set of every component [K], if components of a set share a Gaussian's noise.
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

    def of_rows(self, rows: slice) -> "WeightedLikelihood":
        """Return the likelihood of some rows, at the present scales; the same object for all rows.

        Args:
            rows: which.
        """
        if rows == slice(0, len(self.y)):
            return self
        part = WeightedLikelihood(
            self.family,
            self.y[rows],
            self.exposure.expand(len(self.y), 1, 1)[rows],
            self.responsibilities[rows],
            self.scale,
            scale_sets=self.scale_sets,
        )
        if self.saturated is not None:
            part.__dict__["saturated"] = self.saturated[rows]
        return part

    @functools.cached_property
    def saturated(self) -> Tensor | None:
        """The family's saturated log density of the rows, which derivatives do without."""
        return self.family.saturated(self.y, self.exposure)

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
        beyond = self._beyond_saturated(eta, scale)
        return beyond if self.saturated is None else beyond + (self.saturated * self.responsibilities).sum(0)

    def _beyond_saturated(self, eta: Predictors, scale: Float[Tensor, "K S"]) -> Float[Tensor, " B"]:
        """Return the sums less what does not depend on η and the scales."""
        return self._weighted(self.family.beyond_saturated(self.y, eta, self.exposure, scale)).sum(0)

    def derivatives(self, eta: Predictors) -> tuple[Predictors, Curvature]:
        """Return r times the score, and r times the curvature of the density.

        Args:
            eta: predictors η [N, K, C].
        """
        score, curvature = self.family.score_and_curvature(self.y, eta, self.exposure, self.scale)
        score, (diagonal, factor) = self._weighted(score), curvature
        if factor is not None:
            factor = (self.responsibilities.sqrt().unsqueeze(-1) * factor).masked_fill(self._is_out.unsqueeze(-1), 0.0)
        return score, Curvature(self._weighted(diagonal), factor)

    def scale_derivatives(self, eta: Predictors) -> tuple[Float[Tensor, "B S"], Float[Tensor, "B S S"]]:
        """Return first and second derivatives of the sums in the logarithms of the scales.

        Args:
            eta: predictors η [N, K, C].
        """
        found = self.family.log_scale_derivatives(self.y, eta, self.exposure, self.scale)
        if found is None:
            return derivatives(lambda log_scale: self._beyond_saturated(eta, log_scale.exp()), self.scale.log())
        first, second = found
        return self._weighted(first).sum(0), self._weighted(second).sum(0)

    def scale_gradient_by_moments(self, eta: Predictors, score: Predictors) -> Float[Tensor, "B 1"]:
        """Return the first of these for a noise whose square is a mean of squares: Σ r ((y − η) / σ)² − Σ r.

        Args:
            eta: predictors η [N, K, 1].
            score: r (y − η) / σ², as :meth:`derivatives` returns it.
        """
        squares = torch.where(self._is_out.unsqueeze(-1), 0.0, score * (self.y.unsqueeze(-1) - eta))
        return squares.sum(0) - self.counts.unsqueeze(-1)

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
        elif self.scale_sets is not None:
            found = self._of_sets(found).clamp_min(smallest)
        else:
            found = found.clamp_min(smallest)
        self.scale = torch.where((self._in_sets(self.counts) > 0).unsqueeze(-1), found, self.scale)

    def _of_sets(self, scale: Float[Tensor, "K S"]) -> Float[Tensor, "K S"]:
        """Return of every component the noise of its set, from those of its members; NaN of an empty one counts not."""
        counts = self.counts.unsqueeze(-1)
        squares = torch.where(counts > 0, counts * scale.square(), 0.0)
        return (self._in_sets(squares) / self._in_sets(counts)).sqrt()

    def _in_sets(self, sums: Tensor) -> Tensor:
        """Return of every component the sum over its set."""
        if self.scale_sets is None:
            return sums
        sets = torch.tensor(self.scale_sets, device=sums.device)
        return torch.zeros_like(sums).index_add_(0, sets, sums)[sets]

    @functools.cached_property
    def _is_out(self) -> Tensor:
        """In which components a row has no part [N, K]."""
        return self.responsibilities == 0

    def _weighted(self, values: Tensor) -> Tensor:
        """Return the product of values [N, K, …] and responsibilities, zero where these are."""
        shape = (*self.responsibilities.shape, *(1 for _ in values.shape[2:]))
        return torch.where(self._is_out.reshape(shape), 0.0, self.responsibilities.reshape(shape) * values)
