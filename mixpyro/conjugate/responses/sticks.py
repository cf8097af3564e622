"""Linear response of the shares of a stick, and of their concentration."""

from functools import cached_property

import torch
from torch import Tensor

from mixpyro.conjugate.responses.base import Response
from mixpyro.conjugate.sticks import LearntSticks, Sticks, log_beta


class SticksResponse(Response):
    """Quantities log vₖ − log(1 − vₖ) of the shares, and log α where it has a prior; by automatic differentiation.

    The statistics are log v, log(1 − v), and log α and α: quantities are linear in them.

    Args:
        value: without leading axes.
    """

    is_closed = False

    def __init__(self, value: Sticks | LearntSticks) -> None:
        self.value = value
        self.sticks = value.sticks if isinstance(value, LearntSticks) else value
        self.alpha = value.concentration if isinstance(value, LearntSticks) else None
        self.n_components = self.sticks.own.shape[-1]

    @property
    def quantities(self) -> Tensor:
        """E log v − E log(1 − v) [K], then E log α."""
        logits = torch.digamma(self.sticks.own) - torch.digamma(self.sticks.rest)
        return logits if self.alpha is None else torch.cat([logits, self.alpha.expected_log.reshape(1)])

    @cached_property
    def _variances(self) -> Tensor:
        """Var q of each quantity: ψ'(a) + ψ'(b), and ψ' of the shape."""
        of_shares = torch.polygamma(1, self.sticks.own) + torch.polygamma(1, self.sticks.rest)
        if self.alpha is None:
            return of_shares
        return torch.cat([of_shares, torch.polygamma(1, self.alpha.shape).reshape(1)])

    @property
    def covariance(self) -> Tensor:
        """Cov_q of the quantities, which are independent."""
        return self._variances.diag()

    @property
    def covariance_beyond(self) -> Tensor:
        """Zero."""
        return torch.zeros_like(self.covariance)

    def expected_log_prior(self, prior: Sticks | LearntSticks) -> Tensor:
        """Return E log p(v, α), with its gradient.

        Args:
            prior: of the same kind.
        """
        taken, left = self.sticks.expected_logs
        if self.alpha is None:
            rest = prior.rest[self.sticks.rank.long()]
            density = (prior.own - 1.0) * taken + (rest - 1.0) * left - log_beta(prior.own, rest)
            return density.sum()
        assert isinstance(prior, LearntSticks)
        shape, rate = prior.concentration
        alpha = self.alpha
        of_shares = (alpha.expected_log + (alpha.mean - 1.0) * left).sum()
        return of_shares + (shape - 1.0) * alpha.expected_log - rate * alpha.mean + shape * rate.log() - shape.lgamma()
