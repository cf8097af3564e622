"""Steps of the scales of generalised linear models, from sums over the rows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.distributed import rows as whole
from mixpyro.experts.exponential_family import smallest_scale
from mixpyro.experts.family import Family
from mixpyro.experts.weighted_likelihood import WeightedLikelihood
from mixpyro.numerics.curvature import Predictors
from mixpyro.numerics.few_parameters import uphill_step
from mixpyro.numerics.newton_sums import NewtonSums
from mixpyro.part import overrides
from mixpyro.shapes import Outputs


class ScaleLimits(NamedTuple):
    """Between which the scales of a family are estimated, float64."""

    low: Tensor  # [S]
    high: Tensor  # [S]
    by_moments: bool  # whether the maximum has a closed form

    @classmethod
    def of(cls, family: Family, y: Outputs, weights: Float[Tensor, " N"]) -> "ScaleLimits":
        """Return the limits that some rows set.

        Args:
            family: of the density.
            y: outputs [N, P].
            weights: of the rows.
        """
        if not family.scale_names:
            return cls.none(family, y.device)
        smallest = smallest_scale(family.spread_of(y), weights)
        if family.has_moments:
            return cls(smallest, torch.full_like(smallest, torch.inf), by_moments=True)
        y, weights = whole.gathered(y), whole.gathered(weights)
        return cls(*family.scale_limits(y.double(), weights.double(), smallest), by_moments=False)

    @classmethod
    def none(cls, family: Family, device: torch.device) -> "ScaleLimits":
        """Return no limits.

        Args:
            family: of the density.
            device: of the tensors.
        """
        low = torch.zeros(len(family.scale_names), dtype=torch.float64, device=device)
        return cls(low, low + torch.inf, by_moments=family.has_moments or not family.scale_names)


class ScaleSums(NamedTuple):
    """Derivatives of B log likelihoods in the logarithms of their scales, float64: sums over the rows."""

    gradient: Tensor  # [*B, S]
    hessian: Tensor | None  # [*B, S, S]; None where there are no scales, or their maximum has a closed form

    @classmethod
    def of(cls, likelihood: WeightedLikelihood, eta: Predictors, score: Predictors, *, wanted: bool) -> "ScaleSums":
        """Return the sums of some rows.

        Args:
            likelihood: of the rows.
            eta: their predictors.
            score: weighted derivatives in the predictors.
            wanted: whether scales are estimated; if not, there are none.
        """
        if not wanted:
            return cls(eta.new_zeros(eta.shape[1], 0), None)
        if likelihood.family.has_moments:
            return cls(likelihood.scale_gradient_by_moments(eta, score), None)
        return cls(*likelihood.scale_derivatives(eta))

    def scale_after(
        self,
        scale: Float[Tensor, "R K S"],
        counts: Float[Tensor, "R K"],
        coefficients: NewtonSums,
        step: Float[Tensor, "R K Q"],
        limits: ScaleLimits,
        *,
        sets: Sequence[int] | None = None,
    ) -> Float[Tensor, "R K S"]:
        """Return the scales after a step; a component without objects keeps its own.

        Args:
            scale: σ before it.
            counts: weight of the rows of every component.
            coefficients: derivatives in the coefficients, of the data alone.
            step: of the coefficients, which is taken at once.
            limits: of the scales.
            sets: number of the set of every component, if components of a set share a noise.
        """
        if limits.by_moments:
            found, counts = self._by_moments(scale, counts, coefficients, step, sets)
            found = found.clamp_min(limits.low)
        else:
            low, high = limits.low.log().expand(scale.shape), limits.high.log().expand(scale.shape)
            point = scale.log().maximum(low).minimum(high)
            held = ((point <= low) & (self.gradient < 0)) | ((point >= high) & (self.gradient > 0))
            assert self.hessian is not None
            moved = uphill_step(*(part.flatten(0, 1) for part in (self.gradient, self.hessian, held)))
            found = (point + moved.reshape(point.shape)).maximum(low).minimum(high).exp()
        return torch.where((counts > 0).unsqueeze(-1) & found.isfinite(), found, scale)

    def _by_moments(
        self, scale: Tensor, counts: Tensor, coefficients: NewtonSums, step: Tensor, sets: Sequence[int] | None
    ) -> tuple[Tensor, Tensor]:
        """Return the noise of a Gaussian, the root of Σ r (y − η)² / Σ r after the step, and Σ r; of sets where given.

        The likelihood is quadratic in the coefficients, so that the sum of squares after a step follows from its
        derivatives before it.
        """
        image = (coefficients.information @ step.unsqueeze(-1)).squeeze(-1)
        gain = (step * (2.0 * coefficients.gradient - image)).sum(-1)
        squares = scale.square() * (self.gradient + counts.unsqueeze(-1) - gain.unsqueeze(-1))
        squares = squares.clamp_min(0.0).masked_fill(counts.unsqueeze(-1) <= 0, 0.0)
        if sets is not None:
            squares, counts = in_sets(squares, sets), in_sets(counts, sets)
        return (squares / counts.unsqueeze(-1)).sqrt(), counts


def has_own_scales(family: Family) -> bool:
    """Return whether a user's family has scales in a closed form other than the root of a mean of squares.

    Args:
        family: of the density.
    """
    cls: Any = type(family)
    if not family.has_moments:
        return cls.scale_by_moments is not Family.scale_by_moments
    return overrides(cls, frozenset({"log_prob", "beyond_saturated", "score", "curvature", "scale_by_moments"}))


def in_sets(sums: Float[Tensor, "R K ..."], sets: Sequence[int]) -> Float[Tensor, "R K ..."]:
    """Return of every component the sum over its set.

    Args:
        sums: of the components of R runs.
        sets: number of the set of every component.
    """
    numbers = torch.tensor(sets, device=sums.device)
    return torch.zeros_like(sums).index_add_(1, numbers, sums)[:, numbers]
