"""Exponential families with their canonical links, for generalised linear models.

η are linear predictors [N, K, C], y is [N, P], the noise σ is [K, P], the exposure [N, 1, 1] (one where there is none)
is what a count is proportional to, or the number of trials of a binomial. P is one but for the Gaussian.
"""

import math
from typing import ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from mixpyro import arguments


class Family:
    """What a generalised linear model needs to know of its family.

    Attributes:
        n_predictors: C, how many linear predictors an expert has.
        has_scale: whether there is a noise to estimate besides.
        is_discrete: whether y has probabilities rather than a density.
    """

    n_predictors: int = 1
    has_scale: ClassVar[bool] = False
    is_discrete: ClassVar[bool] = True

    def check(self, y: Tensor, exposure: Tensor) -> None:
        """Raise ValueError where y [N, P] is no value of the family."""
        raise NotImplementedError

    def log_prob(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """log p(y | η) [N, K], every constant included."""
        raise NotImplementedError

    def score(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Derivative of the log likelihood with respect to η [N, K, C]."""
        raise NotImplementedError

    def information(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Minus the second derivative [N, K, C, C]; with a canonical link y does not enter."""
        raise NotImplementedError

    def mean(self, eta: Tensor, exposure: Tensor) -> Tensor:
        """Mean of y [N, K, P]."""
        raise NotImplementedError

    def distribution(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> TorchDistributionMixin:
        """p(y | η) as a Pyro distribution over y, batch shape that of η without its last axis, event shape [P]."""
        raise NotImplementedError


class Gaussian(Family):
    """y ~ Normal(η, σ²), several outputs independent given the component, each with a predictor and a noise."""

    has_scale = True
    is_discrete = False

    def check(self, y: Tensor, exposure: Tensor) -> None:
        """Any finite y will do."""

    def log_prob(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """−½ ((y − η) / σ)² − log σ − ½ log 2π, summed over outputs."""
        residual = (y.unsqueeze(-2) - eta) / scale
        return (-0.5 * residual.square() - scale.log() - 0.5 * math.log(2 * math.pi)).sum(-1)

    def score(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """(y − η) / σ²."""
        return (y.unsqueeze(-2) - eta) / scale.square()

    def information(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """1 / σ²."""
        return torch.diag_embed(scale.square().reciprocal().expand_as(eta))

    def mean(self, eta: Tensor, exposure: Tensor) -> Tensor:
        """η."""
        return eta

    def distribution(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> TorchDistributionMixin:
        """Normal(η, σ²)."""
        return dist.Normal(eta, scale).to_event(1)


class Poisson(Family):
    """y ~ Poisson(exposure · exp(η)): the logarithm of the exposure is the offset."""

    def check(self, y: Tensor, exposure: Tensor) -> None:
        """Counts from zero on."""
        _check_counts(y)

    def log_prob(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """y log(rate) − rate − log y!."""
        log_rate = eta.squeeze(-1) + exposure.squeeze(-1).log()
        return y * log_rate - log_rate.exp() - torch.lgamma(y + 1.0)

    def score(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """y − rate."""
        return y.unsqueeze(-1) - self.mean(eta, exposure)

    def information(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """The rate."""
        return self.mean(eta, exposure).unsqueeze(-1)

    def mean(self, eta: Tensor, exposure: Tensor) -> Tensor:
        """The rate, exposure · exp(η)."""
        return exposure * eta.exp()

    def distribution(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> TorchDistributionMixin:
        """Poisson(rate)."""
        return dist.Poisson(self.mean(eta, exposure)).to_event(1)


class Binomial(Family):
    """y ~ Binomial(trials, sigmoid(η)), the exposure being the number of trials, one by default."""

    def check(self, y: Tensor, exposure: Tensor) -> None:
        """Counts from zero to the number of trials."""
        _check_counts(y)
        if arguments.checks_values() and bool((y > exposure.squeeze(-1)).any()):
            raise ValueError(
                "`y` must not exceed the trials, last column of `x`, or 1 without them; got more successes."
            )

    def log_prob(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """y η − n log(1 + exp η) + log of the binomial coefficient."""
        n, logit = exposure.squeeze(-1), eta.squeeze(-1)
        coefficient = torch.lgamma(n + 1.0) - torch.lgamma(y + 1.0) - torch.lgamma(n - y + 1.0)
        return y * logit - n * torch.nn.functional.softplus(logit) + coefficient

    def score(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """y − n p."""
        return y.unsqueeze(-1) - self.mean(eta, exposure)

    def information(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """n p (1 − p)."""
        p = eta.sigmoid()
        return (exposure * p * (1.0 - p)).unsqueeze(-1)

    def mean(self, eta: Tensor, exposure: Tensor) -> Tensor:
        """n p."""
        return exposure * eta.sigmoid()

    def distribution(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> TorchDistributionMixin:
        """Binomial(n, p)."""
        return dist.Binomial(exposure.expand_as(eta), logits=eta).to_event(1)


class Categorical(Family):
    """y ~ Categorical(softmax(0, η₁, …)), y being the category's number from zero on.

    Args:
        n_categories: at least two.
    """

    def __init__(self, n_categories: int) -> None:
        self.n_categories = arguments.integer("n_categories", n_categories, least=2)
        self.n_predictors = self.n_categories - 1

    def check(self, y: Tensor, exposure: Tensor) -> None:
        """Whole numbers below the number of categories."""
        _check_counts(y)
        if arguments.checks_values() and bool((y >= self.n_categories).any()):
            raise ValueError(f"`y` must be a category below {self.n_categories}; got {float(y.max()):g}.")

    def log_prob(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """log softmax at y."""
        index = y.long().unsqueeze(-1).expand(*eta.shape[:-1], 1)
        return self._logits(eta).log_softmax(-1).gather(-1, index).squeeze(-1)

    def score(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """One at y's predictor, minus the probabilities."""
        observed = torch.nn.functional.one_hot(y.long(), self.n_categories)[..., 1:].to(eta.dtype)
        return observed - self.mean(eta, exposure)[..., 1:]

    def information(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """diag(p) − p p'."""
        p = self.mean(eta, exposure)[..., 1:]
        return torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)

    def mean(self, eta: Tensor, exposure: Tensor) -> Tensor:
        """Probabilities of all categories [N, K, C + 1]; the mean of a category's number would say nothing."""
        return self._logits(eta).softmax(-1)

    def distribution(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> TorchDistributionMixin:
        """Categorical over one number."""
        return dist.Categorical(logits=self._logits(eta).unsqueeze(-2)).to_event(1)

    @staticmethod
    def _logits(eta: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(eta[..., :1]), eta], dim=-1)


def _check_counts(y: Tensor) -> None:
    if arguments.checks_values() and not bool(((y >= 0) & (y == y.floor())).all()):
        raise ValueError(
            f"`y` must hold whole numbers from 0 on; got values from {float(y.min()):g} to {float(y.max()):g}."
        )
