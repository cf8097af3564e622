"""Exponential families with their canonical links, for generalised linear models."""

import math
from typing import ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from mixpyro import arguments
from mixpyro.numerics.linear_predictors import Curvature, with_reference


class Family:
    """Density of y given linear predictors η, with its derivatives.

    In the methods, y is [N, P] and η is [N, K, C]. P, the number of outputs, is 1 but for the Gaussian.

    Attributes:
        n_predictors: C, linear predictors of an expert; of the Gaussian, of each output.
        has_scale: whether there is a noise σ to estimate.
        is_discrete: whether y has probabilities rather than a density.
    """

    n_predictors: int = 1
    has_scale: ClassVar[bool] = False
    is_discrete: ClassVar[bool] = True

    def check(self, y: Tensor, exposure: Tensor) -> None:
        """Raise ValueError where y is outside the support of the family. Any y by default.

        Args:
            y: outputs [N, P].
            exposure: to which a count is proportional, or trials of a binomial [N, 1, 1]; 1 without either.
        """

    def log_prob(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return log p(y | η) in nats, with every constant.

        Args:
            y: outputs [N, P].
            eta: linear predictors η [N, K, C].
            exposure: to which a count is proportional, or trials of a binomial [N, 1, 1], above 0; 1 without either.
            scale: noise σ [K, P], above 0; 1 for a family without.

        Returns:
            [N, K].
        """
        raise NotImplementedError

    def score(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return the derivative of the log density in η: y − E[y | η] by default.

        Args:
            y: outputs [N, P].
            eta: linear predictors η [N, K, C].
            exposure: as for :meth:`log_prob`.
            scale: as for :meth:`log_prob`.

        Returns:
            [N, K, C].
        """
        return y.unsqueeze(-1) - self.mean(eta, exposure)

    def curvature(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> Curvature:
        """Return minus the second derivatives of the log density in η; with a canonical link they do not depend on y.

        Args:
            eta: linear predictors η [N, K, C].
            exposure: as for :meth:`log_prob`.
            scale: as for :meth:`log_prob`.
        """
        raise NotImplementedError

    def mean(self, eta: Tensor, exposure: Tensor) -> Tensor:
        """Return the mean of y; for a categorical, the probabilities of all categories.

        Args:
            eta: linear predictors η [N, K, C].
            exposure: as for :meth:`log_prob`.

        Returns:
            [N, K, P].
        """
        raise NotImplementedError

    def distribution(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> TorchDistributionMixin:
        """Return p(y | η) as a Pyro distribution.

        Args:
            eta: linear predictors η [..., C].
            exposure: as for :meth:`log_prob`, broadcastable to η.
            scale: as for :meth:`log_prob`, broadcastable to η.

        Returns:
            Batch shape that of η without its last axis, event shape [P].
        """
        raise NotImplementedError


class Gaussian(Family):
    """y ~ Normal(η, σ²). Outputs are independent given the component; each has a predictor and a noise of its own."""

    has_scale = True
    is_discrete = False

    def log_prob(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return −½ ((y − η) / σ)² − log σ − ½ log 2π, summed over outputs; arguments as :meth:`Family.log_prob`."""
        residual = (y.unsqueeze(-2) - eta) / scale
        return (-0.5 * residual.square() - scale.log() - 0.5 * math.log(2 * math.pi)).sum(-1)

    def score(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return (y − η) / σ²; arguments as :meth:`Family.score`."""
        return (y.unsqueeze(-2) - eta) / scale.square()

    def curvature(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> Curvature:
        """Return 1 / σ²; arguments as :meth:`Family.curvature`."""
        return Curvature(scale.square().reciprocal().expand_as(eta))

    def mean(self, eta: Tensor, exposure: Tensor) -> Tensor:
        """Return η; arguments as :meth:`Family.mean`."""
        return eta

    def distribution(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> TorchDistributionMixin:
        """Return Normal(η, σ²); arguments as :meth:`Family.distribution`."""
        return dist.Normal(eta, scale).to_event(1)


class Poisson(Family):
    """y ~ Poisson(exposure · exp(η)). The logarithm of the exposure is an offset of the linear predictor."""

    def check(self, y: Tensor, exposure: Tensor) -> None:
        """Raise ValueError unless y holds counts; arguments as :meth:`Family.check`."""
        _check_counts(y)

    def log_prob(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return y log(rate) − rate − log y!; arguments as :meth:`Family.log_prob`."""
        log_rate = eta.squeeze(-1) + exposure.squeeze(-1).log()
        return y * log_rate - log_rate.exp() - torch.lgamma(y + 1.0)

    def curvature(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> Curvature:
        """Return the rate; arguments as :meth:`Family.curvature`."""
        return Curvature(self.mean(eta, exposure))

    def mean(self, eta: Tensor, exposure: Tensor) -> Tensor:
        """Return the rate, exposure · exp(η); arguments as :meth:`Family.mean`."""
        return exposure * eta.exp()

    def distribution(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> TorchDistributionMixin:
        """Return Poisson(rate); arguments as :meth:`Family.distribution`."""
        return dist.Poisson(self.mean(eta, exposure)).to_event(1)


class Binomial(Family):
    """y ~ Binomial(n, p), p = sigmoid(η). The exposure is the number of trials n, 1 by default."""

    def check(self, y: Tensor, exposure: Tensor) -> None:
        """Raise ValueError unless y holds counts up to the number of trials.

        Args:
            y: outputs [N, P].
            exposure: to which a count is proportional, or trials of a binomial [N, 1, 1]; 1 without either.
        """
        _check_counts(y)
        if arguments.checks_values() and bool((y > exposure.squeeze(-1)).any()):
            raise ValueError(
                "`y` must not exceed the trials, last column of `x`, or 1 without them; got more successes."
            )

    def log_prob(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return y η − n log(1 + exp η) + log of the binomial coefficient.

        Args:
            y: outputs [N, P].
            eta: linear predictors η [N, K, C].
            exposure: to which a count is proportional, or trials of a binomial [N, 1, 1], above 0; 1 without either.
            scale: noise σ [K, P], above 0; 1 for a family without.
        """
        n, logit = exposure.squeeze(-1), eta.squeeze(-1)
        coefficient = torch.lgamma(n + 1.0) - torch.lgamma(y + 1.0) - torch.lgamma(n - y + 1.0)
        return y * logit - n * torch.nn.functional.softplus(logit) + coefficient

    def curvature(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> Curvature:
        """Return n p (1 − p).

        Args:
            eta: linear predictors η [N, K, C].
            exposure: as for :meth:`log_prob`.
            scale: as for :meth:`log_prob`.
        """
        p = eta.sigmoid()
        return Curvature(exposure * p * (1.0 - p))

    def mean(self, eta: Tensor, exposure: Tensor) -> Tensor:
        """Return n p.

        Args:
            eta: linear predictors η [N, K, C].
            exposure: as for :meth:`log_prob`.
        """
        return exposure * eta.sigmoid()

    def distribution(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> TorchDistributionMixin:
        """Return Binomial(n, p).

        Args:
            eta: linear predictors η [..., C].
            exposure: as for :meth:`log_prob`, broadcastable to η.
            scale: as for :meth:`log_prob`, broadcastable to η.
        """
        return dist.Binomial(exposure.expand_as(eta), logits=eta).to_event(1)


class Categorical(Family):
    """y ~ Categorical(softmax(0, η₁, …)), where y is the number of the category from zero on.

    Args:
        n_categories: number of categories, at least 2. There is one predictor fewer: the first category has none.
    """

    def __init__(self, n_categories: int) -> None:
        self.n_categories = arguments.integer("n_categories", n_categories, least=2)
        self.n_predictors = self.n_categories - 1

    def check(self, y: Tensor, exposure: Tensor) -> None:
        """Raise ValueError unless y holds numbers of categories.

        Args:
            y: outputs [N, P].
            exposure: to which a count is proportional, or trials of a binomial [N, 1, 1]; 1 without either.
        """
        _check_counts(y)
        if arguments.checks_values() and bool((y >= self.n_categories).any()):
            raise ValueError(f"`y` must be a category below {self.n_categories}; got {float(y.max()):g}.")

    def log_prob(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return log softmax(0, η) at y.

        Args:
            y: outputs [N, P].
            eta: linear predictors η [N, K, C].
            exposure: to which a count is proportional, or trials of a binomial [N, 1, 1], above 0; 1 without either.
            scale: noise σ [K, P], above 0; 1 for a family without.
        """
        index = y.long().unsqueeze(-1).expand(*eta.shape[:-1], 1)
        return with_reference(eta).log_softmax(-1).gather(-1, index).squeeze(-1)

    def score(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return 1 at the predictor of y, minus the probabilities.

        Args:
            y: outputs [N, P].
            eta: linear predictors η [N, K, C].
            exposure: as for :meth:`log_prob`.
            scale: as for :meth:`log_prob`.
        """
        observed = torch.nn.functional.one_hot(y.long(), self.n_categories)[..., 1:].to(eta.dtype)
        return observed - self.mean(eta, exposure)[..., 1:]

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
        return with_reference(eta).softmax(-1)

    def distribution(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> TorchDistributionMixin:
        """Return Categorical(softmax(0, η)).

        Args:
            eta: linear predictors η [..., C].
            exposure: as for :meth:`log_prob`, broadcastable to η.
            scale: as for :meth:`log_prob`, broadcastable to η.
        """
        return dist.Categorical(logits=with_reference(eta).unsqueeze(-2)).to_event(1)


def _check_counts(y: Tensor) -> None:
    """Raise ValueError unless y holds whole numbers from zero on."""
    if arguments.checks_values() and not bool(((y >= 0) & (y == y.floor())).all()):
        raise ValueError(
            f"`y` must hold whole numbers from 0 on; got values from {float(y.min()):g} to {float(y.max()):g}."
        )
