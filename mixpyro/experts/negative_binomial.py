"""Negative binomial counts: more spread than a Poisson distribution has."""

from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from mixpyro.distributions.checked_values import IndependentOutputs
from mixpyro.distributions.negative_binomial import PreciseNegativeBinomial
from mixpyro.experts.family import Family
from mixpyro.experts.log_rates import check_counts, finite_rate, log_common_rates, log_rate
from mixpyro.numerics.count_densities import saturated_poisson
from mixpyro.numerics.curvature import Curvature
from mixpyro.numerics.overdispersed_counts import negative_binomial_half_deviance, saturated_beyond_poisson
from mixpyro.numerics.precision import in_range
from mixpyro.shapes import Responsibilities

# Share of a count's variance, about, that is not Poisson's, at the least dispersion that is estimated; it is not seen.
LEAST_EXCESS = 1e-8
# A dispersion at which the share is less has its maximum at 0.
NO_EXCESS = 1e-5
# Beyond it nearly all counts are 0, and no larger one is told apart.
LARGEST_DISPERSION = 1e6


class NegativeBinomial(Family):
    """y ~ NegativeBinomial with mean μ = exposure · exp(η) and variance μ + α μ², α of each component (NB2).

    The dispersion α, ``scale`` of :class:`~mixpyro.experts.GLMExperts`, is estimated for each component; 1 / α is the
    size, ``theta`` of MASS and the shape of brms. As α goes to 0 the counts are Poisson; a fit that ends there says so.

    References:
        Cameron, Trivedi (2013), Regression Analysis of Count Data, section 3.3.1; Hilbe (2011), Negative Binomial
        Regression, chapter 8.

    Example:
        >>> import torch
        >>> from mixpyro import GLMExperts
        >>> experts = GLMExperts(1, 0, NegativeBinomial())
        >>> y = torch.tensor([0.0, 0.0, 1.0, 2.0, 9.0, 30.0]).double().unsqueeze(1)
        >>> experts.maximise(y[:, :0], y, torch.ones_like(y))
        >>> [round(float(value), 2) for value in (experts.predict(y[:1, :0]), experts.scale.detach())]
        [7.0, 2.98]
    """

    has_counts = True
    scale_names = ("dispersion",)

    def check(self, y: Tensor, exposure: Tensor) -> None:
        """Raise ValueError unless y holds counts; arguments as :meth:`Family.check`."""
        check_counts(y)

    def common_predictors(self, y: Tensor, exposure: Tensor, responsibilities: Responsibilities) -> Tensor:
        """Return the log of counts per exposure; arguments as :meth:`Family.common_predictors`."""
        return log_common_rates(y, exposure, responsibilities)

    def log_prob(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return log Γ(y + 1/α) − log Γ(1/α) − log y! + …; arguments as :meth:`Family.log_prob`."""
        log_prob = self.saturated(y, exposure) + self.beyond_saturated(y, eta, exposure, scale)
        return log_prob.to(exposure.dtype)

    def saturated(self, y: Tensor, exposure: Tensor) -> Tensor:
        """Return the Poisson's y log y − y − log y! [N, 1], float64; arguments as :meth:`Family.saturated`."""
        return saturated_poisson(y)

    def beyond_saturated(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return what the log probability is beyond it [N, K]; arguments as :meth:`Family.beyond_saturated`."""
        dispersion = scale.squeeze(-1)
        deviance = negative_binomial_half_deviance(y, log_rate(eta, exposure).squeeze(-1), dispersion)
        return saturated_beyond_poisson(y, dispersion) - deviance

    def score(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return (y − μ) / (1 + α μ); arguments as :meth:`Family.score`."""
        rate = finite_rate(eta, exposure)
        return ((y.double().unsqueeze(-1) - rate) / (1.0 + scale.double() * rate)).to(exposure.dtype)

    def curvature(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> Curvature:
        """Return its mean over y, μ / (1 + α μ); arguments as :meth:`Family.curvature`."""
        rate = finite_rate(eta, exposure)
        return Curvature((rate / (1.0 + scale.double() * rate)).to(exposure.dtype))

    def observed_curvature(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Curvature:
        """Return μ (1 + α y) / (1 + α μ)²; arguments as :meth:`Family.observed_curvature`."""
        rate, dispersion = finite_rate(eta, exposure), scale.double()
        excess = 1.0 + dispersion * rate
        return Curvature((rate / excess * ((1.0 + dispersion * y.double().unsqueeze(-1)) / excess)).to(exposure.dtype))

    def scale_limits(self, y: Tensor, weights: Tensor, smallest: Tensor) -> tuple[Tensor, Tensor]:
        """Return dispersions that are not seen, as none and as most; arguments as :meth:`Family.scale_limits`."""
        mean = (weights.unsqueeze(-1) * y).sum(0) / weights.sum()
        return LEAST_EXCESS / mean.clamp_min(1.0), mean.new_full((1,), LARGEST_DISPERSION)

    def beyond_limits(self, y: Tensor, scale: Float[Tensor, " S"], weights: Tensor) -> str:
        """Return that the counts are Poisson, or all alike 0; arguments as :meth:`Family.beyond_limits`."""
        mean = float((weights * y.squeeze(-1)).sum() / weights.sum())
        if float(scale) * max(mean, 1.0) < NO_EXCESS:
            return "has a dispersion of 0, the Poisson limit: Poisson() does with a parameter less"
        if float(scale) >= 0.99 * LARGEST_DISPERSION:
            return "has a dispersion without limit, as where nearly all counts are 0"
        return ""

    def mean(self, eta: Tensor, exposure: Tensor) -> Tensor:
        """Return μ; arguments as :meth:`Family.mean`."""
        return in_range(log_rate(eta, exposure).exp(), exposure.dtype)

    def distribution(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> TorchDistributionMixin:
        """Return NegativeBinomial(μ, α); arguments as :meth:`Family.distribution`."""
        found = PreciseNegativeBinomial(log_rate(eta, exposure), scale, dtype=exposure.dtype)
        return IndependentOutputs(found)
