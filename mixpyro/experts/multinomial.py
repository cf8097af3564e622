"""Multinomial counts: how many of a row's trials fell into each category."""

from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from mixpyro import arguments
from mixpyro.distributions.multinomial import PreciseMultinomial, multinomial_half_deviance, saturated_multinomial
from mixpyro.experts.family import Family
from mixpyro.experts.log_rates import check_counts
from mixpyro.numerics.curvature import Curvature
from mixpyro.numerics.soft_labels import with_reference


class Multinomial(Family):
    """y ~ Multinomial(n, softmax(0, η₁, …)), a column of y for each category; rows sum to n.

    The exposure is the number of trials n, 1 by default; with one trial a row it is the categorical family, with y as
    indicators. For other totals give ``exposure=True`` and the totals, ``y.sum(1)``, as the last column of x.

    Args:
        n_categories: C, at least 2: columns of y. There is one predictor fewer: the first category has none.

    References:
        McCullagh, Nelder (1989), Generalized Linear Models, section 5.2.4.

    Example:
        >>> import torch
        >>> from mixpyro import GLMExperts
        >>> y = torch.tensor([[3.0, 1.0, 0.0], [2.0, 2.0, 2.0]]).double()
        >>> totals, experts = y.sum(1, keepdim=True), GLMExperts(1, 0, Multinomial(3), exposure=True)
        >>> experts.maximise(totals, y, torch.ones(2, 1).double())
        >>> experts.predict(totals)[:, 0].round(decimals=3).tolist()
        [[2.0, 1.2, 0.8], [3.0, 1.8, 1.2]]
    """

    @arguments.declared
    def __init__(self, n_categories: int) -> None:
        self.n_categories = arguments.size("n_categories", n_categories, least=2)
        self.n_predictors, self.n_outputs = self.n_categories - 1, self.n_categories

    def check(self, y: Tensor, exposure: Tensor) -> None:
        """Raise ValueError unless y holds counts that sum to the trials; arguments as :meth:`Family.check`."""
        check_counts(y)
        totals, trials = y.sum(-1), exposure.reshape(-1)
        if arguments.checks_values() and not bool((totals == trials).all()):
            row = int((totals != trials).nonzero()[0])
            raise ValueError(
                "`y` must sum to the trials of its row, last column of `x`, or 1 without them; got "
                f"{float(totals[row]):g} of {float(trials[row]):g} in row {row}. Use exposure=True and "
                "torch.cat([x, y.sum(1, keepdim=True)], 1)."
            )

    def log_prob(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return log n! − Σ log y! + Σ y log p; arguments as :meth:`Family.log_prob`."""
        log_prob = self.saturated(y, exposure) + self.beyond_saturated(y, eta, exposure, scale)
        return log_prob.to(exposure.dtype)

    def saturated(self, y: Tensor, exposure: Tensor) -> Tensor:
        """Return the log probability of y where p = y / n [N, 1], float64; arguments as :meth:`Family.saturated`."""
        return saturated_multinomial(y).unsqueeze(-1)

    def beyond_saturated(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return minus half the deviance [N, K], float64; arguments as :meth:`Family.beyond_saturated`."""
        return -multinomial_half_deviance(y.unsqueeze(-2), with_reference(eta.double()).log_softmax(-1))

    def score(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return y − n p without the first category; arguments as :meth:`Family.score`."""
        expected = exposure.double() * with_reference(eta.double()).softmax(-1)
        return (y.double().unsqueeze(-2) - expected)[..., 1:].to(exposure.dtype)

    def curvature(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> Curvature:
        """Return n (diag(p) − p p') without the first category; arguments as :meth:`Family.curvature`."""
        p = with_reference(eta.double()).softmax(-1)[..., 1:]
        trials = exposure.double()
        return Curvature((trials * p).to(exposure.dtype), factor=(trials.sqrt() * p).to(exposure.dtype))

    def mean(self, eta: Tensor, exposure: Tensor) -> Tensor:
        """Return n p [N, K, C]; arguments as :meth:`Family.mean`."""
        return (exposure * with_reference(eta.double()).softmax(-1)).to(exposure.dtype)

    def distribution(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> TorchDistributionMixin:
        """Return Multinomial(n, softmax(0, η)); arguments as :meth:`Family.distribution`."""
        return PreciseMultinomial(exposure.squeeze(-1), with_reference(eta.double()), dtype=exposure.dtype)
