"""Poisson counts from one on, of a hurdle model."""

from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from mixpyro.distributions import zero_truncated_poisson as truncated
from mixpyro.distributions.checked_values import IndependentOutputs
from mixpyro.experts.family import Family
from mixpyro.experts.log_rates import check_counts, log_common_rates, log_rate
from mixpyro.numerics.count_densities import LARGEST_LOG_RATIO, saturated_poisson
from mixpyro.numerics.curvature import Curvature
from mixpyro.numerics.precision import in_range
from mixpyro.shapes import Responsibilities


class ZeroTruncatedPoisson(Family):
    """y ~ Poisson(exposure · exp(η)) without the zeros: the counts of those that are past a hurdle.

    Beside a :class:`~mixpyro.experts.PointMassExperts` at 0 it is a hurdle model: zeros have a cause of their own, and
    no other. With :class:`~mixpyro.experts.families.Poisson` in its place zeros have two causes, zero inflation.

    References:
        Mullahy (1986), Specification and testing of some modified count data models; Cameron, Trivedi (2013),
        Regression Analysis of Count Data, section 4.5.

    Example:
        The shares of zeros of women and men, and how many visits those have who have any:

        >>> import torch
        >>> from mixpyro import GLMExperts, HeterogeneousExperts, MixtureOfExperts, PointMassExperts, SoftmaxGate, fit
        >>> visits = torch.tensor([0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 1.0, 3.0]).double()
        >>> is_male = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]).double().unsqueeze(1)
        >>> hurdle = HeterogeneousExperts([PointMassExperts(1), GLMExperts(1, 0, ZeroTruncatedPoisson())])
        >>> result = fit(MixtureOfExperts(SoftmaxGate(2, 1), hurdle), is_male, visits, n_restarts=1)
        >>> result.mixture.gate.weights(torch.tensor([[0.0], [1.0]]).double())[:, 0].round(decimals=3).tolist()
        [0.6, 0.333]
        >>> round(float(hurdle.predict(is_male)[0, 1]), 3)  # of those with any: 7 visits of 4
        1.75
    """

    has_counts = True

    def check(self, y: Tensor, exposure: Tensor) -> None:
        """Raise ValueError unless y holds counts; zeros have probability 0; arguments as :meth:`Family.check`."""
        check_counts(y)

    def common_predictors(self, y: Tensor, exposure: Tensor, responsibilities: Responsibilities) -> Tensor:
        """Return the log of counts per exposure; arguments as :meth:`Family.common_predictors`."""
        return log_common_rates(y, exposure, responsibilities)

    def log_prob(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return y log(rate) − rate − log y! − log(1 − exp(−rate)); arguments as :meth:`Family.log_prob`."""
        log_prob = self.saturated(y, exposure) + self.beyond_saturated(y, eta, exposure, scale)
        return log_prob.to(exposure.dtype)

    def saturated(self, y: Tensor, exposure: Tensor) -> Tensor:
        """Return the Poisson's y log y − y − log y! [N, 1], float64; arguments as :meth:`Family.saturated`."""
        return saturated_poisson(y)

    def beyond_saturated(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return what the log probability is beyond it [N, K]; arguments as :meth:`Family.beyond_saturated`."""
        return truncated.beyond_saturated(y, log_rate(eta, exposure).squeeze(-1))

    def score(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return y less the mean; arguments as :meth:`Family.score`."""
        eta = log_rate(eta, exposure).clamp_max(LARGEST_LOG_RATIO)
        return (y.double().unsqueeze(-1) - truncated.mean_above_zero(eta)).to(exposure.dtype)

    def curvature(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> Curvature:
        """Return the variance; arguments as :meth:`Family.curvature`."""
        eta = log_rate(eta, exposure).clamp_max(0.5 * LARGEST_LOG_RATIO)
        mean = truncated.mean_above_zero(eta)
        return Curvature((mean * (1.0 + eta.exp() - mean).clamp_min(0.0)).to(exposure.dtype))

    def mean(self, eta: Tensor, exposure: Tensor) -> Tensor:
        """Return the mean of the counts that are not 0; arguments as :meth:`Family.mean`."""
        return in_range(truncated.mean_above_zero(log_rate(eta, exposure)), exposure.dtype)

    def distribution(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> TorchDistributionMixin:
        """Return the distribution of the counts that are not 0; arguments as :meth:`Family.distribution`."""
        found = truncated.ZeroTruncatedPoisson(log_rate(eta, exposure), dtype=exposure.dtype)
        return IndependentOutputs(found)
