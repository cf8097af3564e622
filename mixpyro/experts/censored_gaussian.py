"""Gaussian outcomes of which some are known only to lie above, below or between limits."""

import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from mixpyro import arguments
from mixpyro.distributions.censored_normal import CensoredNormal, censored_log_prob, standardised_limits
from mixpyro.experts.family import Family
from mixpyro.numerics.censored_normal import moments
from mixpyro.numerics.curvature import Curvature


class CensoredGaussian(Family):
    """y ~ Normal(η, σ²), where y is given by two columns, its lower and its upper limit.

    ================== ============ ============
    the outcome        lower        upper
    ================== ============ ============
    is known, 3.1      3.1          3.1
    is 3.1 or more     3.1          ∞
    is 3.1 or less     −∞           3.1
    is from 2 to 3.1   2            3.1
    ================== ============ ============

    These are the limits of ``interval2`` in R's survival. A row's likelihood is the density where the limits are equal,
    and else the probability between them; censoring must not depend on the outcome beyond its limits. With ``log`` of
    times as limits it is the log-normal accelerated failure time model; with detection limits as −∞ to the limit, the
    Tobit model. Predictions, draws and quantiles are of outcomes that are known: two equal columns.

    References:
        Tobin (1958), Estimation of relationships for limited dependent variables; Amemiya (1984), Tobit models: a
        survey, section 4; Kalbfleisch, Prentice (2002), The Statistical Analysis of Failure Time Data, section 3.6.

    Example:
        >>> from mixpyro import GLMExperts
        >>> known, cut = torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]), torch.tensor([[3.0, torch.inf]])
        >>> y, experts = torch.cat([known, cut]).double(), GLMExperts(1, 0, CensoredGaussian())
        >>> experts.maximise(y[:, :0], y, torch.ones(4, 1).double())
        >>> experts.predict(y[:1, :0]).flatten().round(decimals=2).tolist()
        [2.41, 2.41]
    """

    scale_names = ("scale",)
    has_scale = True
    is_discrete = False
    is_finite = False
    n_outputs = 2

    def check(self, y: Tensor, exposure: Tensor) -> None:
        """Raise ValueError unless y holds lower and upper limits; arguments as :meth:`Family.check`."""
        low, high = y.unbind(-1)
        if not arguments.checks_values():
            return
        wrong = ~((low <= high) & (low < torch.inf) & (high > -torch.inf))
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0])
            pair = f"{float(low[row]):g} and {float(high[row]):g} in row {row}"
            raise ValueError(
                "`y` must have a lower limit, then an upper one that is not below it: equal where the outcome is "
                f"known, -inf or inf where there is none; got {pair}."
            )

    def log_prob(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return log φ or log (Φ − Φ); arguments as :meth:`Family.log_prob`."""
        found = censored_log_prob(y.unsqueeze(-2), eta.squeeze(-1), scale.squeeze(-1))
        return found.to(exposure.dtype)

    def score(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return (E[y | its limits] − η) / σ²; arguments as :meth:`Family.score`."""
        found = moments(*standardised_limits(y.unsqueeze(-2), eta.squeeze(-1), scale.squeeze(-1))).mean
        return (found.unsqueeze(-1) / scale.double()).to(exposure.dtype)

    def curvature(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> Curvature:
        """Return 1 / σ², that of outcomes that are known; arguments as :meth:`Family.curvature`."""
        return Curvature(scale.square().reciprocal().expand_as(eta))

    def observed_curvature(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Curvature:
        """Return (1 − Var[y | its limits] / σ²) / σ²; arguments as :meth:`Family.observed_curvature`."""
        lost = moments(*standardised_limits(y.unsqueeze(-2), eta.squeeze(-1), scale.squeeze(-1))).lost_variance
        return Curvature((lost.unsqueeze(-1) / scale.double().square()).to(exposure.dtype))

    def scale_limits(self, y: Tensor, weights: Tensor, smallest: Tensor) -> tuple[Tensor, Tensor]:
        """Return the limits of σ; arguments as :meth:`Family.scale_limits`."""
        return smallest, torch.full_like(smallest, torch.inf)

    def start(self, y: Tensor) -> Tensor:
        """Return the middle of the limits, or the only one [N, 1]; arguments as :meth:`Family.start`."""
        low, high = y.split(1, dim=-1)
        known = torch.where(low.isinf(), high, torch.where(high.isinf(), low, low + 0.5 * (high - low)))
        is_open = known.isinf()
        mean = torch.where(is_open, 0.0, known).sum() / (~is_open).sum().clamp_min(1)
        return torch.where(is_open, mean, known)

    def scales_at_start(self, noise: Tensor) -> Tensor:
        """Return the noise; arguments as :meth:`Family.scales_at_start`."""
        return noise.unsqueeze(-1)

    def spread_of(self, y: Tensor) -> Tensor:
        """Return what :meth:`start` does; arguments as :meth:`Family.spread_of`."""
        return self.start(y)

    def mean(self, eta: Tensor, exposure: Tensor) -> Tensor:
        """Return η, twice; arguments as :meth:`Family.mean`."""
        return eta.expand(*eta.shape[:-1], 2).to(exposure.dtype)

    def distribution(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> TorchDistributionMixin:
        """Return the distribution of limits; arguments as :meth:`Family.distribution`."""
        return CensoredNormal(eta.squeeze(-1).to(exposure.dtype), scale.squeeze(-1))
