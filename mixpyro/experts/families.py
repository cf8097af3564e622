"""Families of densities for generalised linear models."""

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from mixpyro import arguments
from mixpyro.distributions.checked_values import IndependentOutputs
from mixpyro.distributions.counts import PreciseBinomial, PrecisePoisson
from mixpyro.experts.censored_gaussian import CensoredGaussian
from mixpyro.experts.family import Family
from mixpyro.experts.log_rates import check_counts, finite_rate, log_common_rates, log_rate
from mixpyro.experts.multinomial import Multinomial
from mixpyro.experts.negative_binomial import NegativeBinomial
from mixpyro.experts.student_t import StudentT
from mixpyro.experts.truncated_poisson import ZeroTruncatedPoisson
from mixpyro.numerics.count_densities import (
    binomial_half_deviance,
    poisson_half_deviance,
    saturated_binomial,
    saturated_poisson,
)
from mixpyro.numerics.curvature import Curvature
from mixpyro.numerics.precision import in_range
from mixpyro.numerics.soft_labels import with_reference
from mixpyro.part import overrides
from mixpyro.shapes import Responsibilities

__all__ = [
    "Binomial",
    "Categorical",
    "CensoredGaussian",
    "Family",
    "Gaussian",
    "Multinomial",
    "NegativeBinomial",
    "Poisson",
    "StudentT",
    "ZeroTruncatedPoisson",
]


class Gaussian(Family):
    """y ~ Normal(η, σ²). Outputs are independent given the component; each has a predictor and a noise of its own."""

    scale_names = ("scale",)
    has_scale = True
    has_moments = True
    is_discrete = False

    def log_prob(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return −½ ((y − η) / σ)² − log σ − ½ log 2π, summed over outputs; arguments as :meth:`Family.log_prob`."""
        residual = (y.unsqueeze(-2) - eta) / scale
        log_density = -0.5 * residual.square() - (scale.log() + 0.5 * math.log(2 * math.pi))
        total = log_density.sum(-1) if log_density.shape[-1] > 1 else log_density.squeeze(-1)
        return total.to(exposure.dtype)

    def score(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return (y − η) / σ²; arguments as :meth:`Family.score`."""
        return ((y.unsqueeze(-2) - eta) / scale.square()).to(exposure.dtype)

    def curvature(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> Curvature:
        """Return 1 / σ²; arguments as :meth:`Family.curvature`."""
        return Curvature(scale.square().reciprocal().expand_as(eta))

    def log_scale_derivatives(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Return ((y − η) / σ)² − 1 and −2 ((y − η) / σ)²; arguments as :meth:`Family.log_scale_derivatives`."""
        squares = ((y.unsqueeze(-2) - eta) / scale).square()
        return squares - 1.0, torch.diag_embed(-2.0 * squares)

    def scale_by_moments(self, y: Tensor, eta: Tensor, responsibilities: Tensor) -> Tensor:
        """Return the root of Σ r (y − η)² / Σ r; arguments as :meth:`Family.scale_by_moments`."""
        r = responsibilities.unsqueeze(-1)
        return ((r * (y.unsqueeze(1) - eta).square()).sum(0) / r.sum(0)).sqrt()

    def mean(self, eta: Tensor, exposure: Tensor) -> Tensor:
        """Return η; arguments as :meth:`Family.mean`."""
        return eta.to(exposure.dtype)

    def distribution(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> TorchDistributionMixin:
        """Return Normal(η, σ²); arguments as :meth:`Family.distribution`."""
        return IndependentOutputs(dist.Normal(eta.to(exposure.dtype), scale))


class Poisson(Family):
    """y ~ Poisson(exposure · exp(η)). The logarithm of the exposure is an offset of the linear predictor."""

    has_counts = True

    def check(self, y: Tensor, exposure: Tensor) -> None:
        """Raise ValueError unless y holds counts; arguments as :meth:`Family.check`."""
        check_counts(y)

    def log_prob(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return y log(rate) − rate − log y!; arguments as :meth:`Family.log_prob`."""
        log_prob = self.saturated(y, exposure) + self.beyond_saturated(y, eta, exposure, scale)
        return log_prob.to(exposure.dtype)

    def common_predictors(self, y: Tensor, exposure: Tensor, responsibilities: Responsibilities) -> Tensor:
        """Return the log of counts per exposure; arguments as :meth:`Family.common_predictors`."""
        return log_common_rates(y, exposure, responsibilities)

    def saturated(self, y: Tensor, exposure: Tensor) -> Tensor:
        """Return y log y − y − log y! [N, 1], float64; arguments as :meth:`Family.saturated`."""
        return saturated_poisson(y)

    def beyond_saturated(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return −(y log(y / rate) − y + rate) [N, K], float64; arguments as :meth:`Family.beyond_saturated`."""
        return -poisson_half_deviance(y, log_rate(eta, exposure).squeeze(-1))

    def score(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return y − rate; arguments as :meth:`Family.score`."""
        # In float64: the difference of two large numbers may be small.
        return (y.double().unsqueeze(-1) - finite_rate(eta, exposure)).to(exposure.dtype)

    def curvature(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> Curvature:
        """Return the rate; arguments as :meth:`Family.curvature`."""
        return Curvature(finite_rate(eta, exposure).to(exposure.dtype))

    def score_and_curvature(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> tuple[Tensor, Curvature]:
        """Return both from one rate; arguments as :meth:`Family.score_and_curvature`."""
        cls: Any = type(self)
        if overrides(cls, frozenset({"score", "curvature", "observed_curvature"})):
            return super().score_and_curvature(y, eta, exposure, scale)
        rate = finite_rate(eta, exposure)
        return (y.double().unsqueeze(-1) - rate).to(exposure.dtype), Curvature(rate.to(exposure.dtype))

    def mean(self, eta: Tensor, exposure: Tensor) -> Tensor:
        """Return the rate, exposure · exp(η), in the range of the dtype; arguments as :meth:`Family.mean`."""
        return in_range(log_rate(eta, exposure).exp(), exposure.dtype)

    def distribution(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> TorchDistributionMixin:
        """Return Poisson(rate); arguments as :meth:`Family.distribution`."""
        return IndependentOutputs(PrecisePoisson(log_rate(eta, exposure), dtype=exposure.dtype))


class Binomial(Family):
    """y ~ Binomial(n, p), p = sigmoid(η). The exposure is the number of trials n, 1 by default."""

    def check(self, y: Tensor, exposure: Tensor) -> None:
        """Raise ValueError unless y holds counts up to the number of trials.

        Args:
            y: outputs [N, P].
            exposure: to which a count is proportional, or trials of a binomial [N, 1, 1]; 1 without either.
        """
        check_counts(y)
        if arguments.checks_values() and bool((y > exposure.squeeze(-1)).any()):
            raise ValueError(
                "`y` must not exceed the trials, last column of `x`, or 1 without them; got more successes. "
                "Give the trials, to fit_formula by trials='column'."
            )

    def log_prob(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return y η − n log(1 + exp η) + log of the binomial coefficient; arguments as :meth:`Family.log_prob`."""
        log_prob = self.saturated(y, exposure) + self.beyond_saturated(y, eta, exposure, scale)
        return log_prob.to(exposure.dtype)

    def saturated(self, y: Tensor, exposure: Tensor) -> Tensor:
        """Return the log probability of y where np = y [N, 1], float64; arguments as :meth:`Family.saturated`."""
        return saturated_binomial(y, exposure.squeeze(-1))

    def beyond_saturated(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return minus half the deviance [N, K], float64; arguments as :meth:`Family.beyond_saturated`."""
        return -binomial_half_deviance(y, exposure.squeeze(-1), eta.squeeze(-1))

    def curvature(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> Curvature:
        """Return n p (1 − p).

        Args:
            eta: linear predictors η [N, K, C].
            exposure: as for :meth:`log_prob`.
            scale: as for :meth:`log_prob`.
        """
        # Not p (1 − p): near p = 1 the difference has no digits.
        return Curvature(exposure * eta.sigmoid() * (-eta).sigmoid())

    def mean(self, eta: Tensor, exposure: Tensor) -> Tensor:
        """Return n p.

        Args:
            eta: linear predictors η [N, K, C].
            exposure: as for :meth:`log_prob`.
        """
        return (exposure * eta.double().sigmoid()).to(exposure.dtype)

    def distribution(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> TorchDistributionMixin:
        """Return Binomial(n, p).

        Args:
            eta: linear predictors η [..., C].
            exposure: as for :meth:`log_prob`, broadcastable to η.
            scale: as for :meth:`log_prob`, broadcastable to η.
        """
        return IndependentOutputs(PreciseBinomial(exposure.expand_as(eta), eta, dtype=exposure.dtype))


class Categorical(Family):
    """y ~ Categorical(softmax(0, η₁, …)), where y is the number of the category from zero on.

    Args:
        n_categories: number of categories, at least 2. There is one predictor fewer: the first category has none.
    """

    @arguments.declared
    def __init__(self, n_categories: int) -> None:
        self.n_categories = arguments.size("n_categories", n_categories, least=2)
        self.n_predictors = self.n_categories - 1

    def check(self, y: Tensor, exposure: Tensor) -> None:
        """Raise ValueError unless y holds numbers of categories.

        Args:
            y: outputs [N, P].
            exposure: to which a count is proportional, or trials of a binomial [N, 1, 1]; 1 without either.
        """
        check_counts(y)
        if arguments.checks_values() and bool((y >= self.n_categories).any()):
            raise ValueError(f"`y` must be a category below {self.n_categories}; got {float(y.max()):g}.")

    def log_prob(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return log softmax(0, η) at y.

        Args:
            y: outputs [N, P].
            eta: linear predictors η [N, K, C].
            exposure: to which a count is proportional, or trials of a binomial [N, 1, 1], above 0; 1 without either.
            scale: σ [K, S], above 0; 1 for a family without.
        """
        index = y.long().unsqueeze(-1).expand(*eta.shape[:-1], 1)
        return with_reference(eta).log_softmax(-1).gather(-1, index).squeeze(-1).to(exposure.dtype)

    def score(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return 1 at the predictor of y, minus the probabilities.

        Args:
            y: outputs [N, P].
            eta: linear predictors η [N, K, C].
            exposure: as for :meth:`log_prob`.
            scale: as for :meth:`log_prob`.
        """
        observed = torch.nn.functional.one_hot(y.long(), self.n_categories)[..., 1:].to(eta.dtype)
        return (observed - with_reference(eta).softmax(-1)[..., 1:]).to(exposure.dtype)

    def curvature(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> Curvature:
        """Return diag(p) − p p'.

        Args:
            eta: linear predictors η [N, K, C].
            exposure: as for :meth:`log_prob`.
            scale: as for :meth:`log_prob`.
        """
        p = self.mean(eta, exposure)[..., 1:]
        return Curvature(p, factor=p)

    def mean(self, eta: Tensor, exposure: Tensor) -> Tensor:
        """Return the probabilities of all categories [N, K, C + 1].

        Args:
            eta: linear predictors η [N, K, C].
            exposure: as for :meth:`log_prob`.
        """
        return with_reference(eta).softmax(-1).to(exposure.dtype)

    def distribution(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> TorchDistributionMixin:
        """Return Categorical(softmax(0, η)).

        Args:
            eta: linear predictors η [..., C].
            exposure: as for :meth:`log_prob`, broadcastable to η.
            scale: as for :meth:`log_prob`, broadcastable to η.
        """
        return IndependentOutputs(dist.Categorical(logits=with_reference(eta).unsqueeze(-2).to(exposure.dtype)))
