"""Weights by breaking a stick, as values: a Beta distribution of each share, and a Gamma of the concentration."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.conjugate.dirichlet import Counts
from mixpyro.conjugate.gamma import Gamma
from mixpyro.numerics.digamma import digamma

# Newton steps for the mean of the concentration, and the relative change at which it stands still.
MOST_STEPS, STILL = 50, 1e-14
# Largest step of its logarithm.
LARGEST_STEP = 2.0


class Sticks(NamedTuple):
    """Component k takes the share vₖ ~ Beta(own, rest) of what those of lower rank have left, float64.

    πₖ = vₖ Πⱼ (1 − vⱼ) over the components j of lower rank than k. Something is left after the last one, which is the
    weight of all components beyond these. A prior has the ranks 0 to K − 1 in order and no leading axes.
    """

    own: Tensor  # a [..., K]
    rest: Tensor  # b [..., K]
    rank: Tensor  # place of each component in the order of breaking, 0 to K − 1 [..., K]

    @property
    def expected_logs(self) -> tuple[Tensor, Tensor]:
        """E log v and E log(1 − v) [..., K]; Blei, Jordan (2006), eq. 18."""
        total = digamma(self.own + self.rest)
        return digamma(self.own) - total, digamma(self.rest) - total

    @property
    def expected_log(self) -> Float[Tensor, "*R K"]:
        """E log π."""
        taken, left = self.expected_logs
        return taken + sum_of_earlier(left, self.rank)

    @property
    def log_mean(self) -> Float[Tensor, "*R K"]:
        """log E π; the sum of E π is one less :attr:`weight_beyond`."""
        total = (self.own + self.rest).log()
        return self.own.log() - total + sum_of_earlier(self.rest.log() - total, self.rank)

    @property
    def mean(self) -> Float[Tensor, "*R K"]:
        """E π over its sum: the weights of an object that is of one of the K components."""
        return self.log_mean.softmax(-1)

    @property
    def weight_beyond(self) -> Float[Tensor, "*R"]:
        """Expected weight of all components beyond K."""
        return (self.rest / (self.own + self.rest)).log().sum(-1).exp()

    @property
    def n_parameters(self) -> int:
        """Number of shares, K."""
        return self.own.shape[-1]

    def updated(self, seen: Counts) -> "Sticks":
        """Return the posterior of this prior, components by their counts, the largest first.

        Of all orders this has the highest bound. Methods of Blei, Jordan (2006), eq. 18 and 19; Kurihara, Welling, Teh
        (2007), section 3.2 (the order).

        Args:
            seen: counts [..., K], non-negative.
        """
        order = seen.counts.argsort(dim=-1, descending=True, stable=True)
        rank = order.argsort(-1)
        later = _sum_of_later(seen.counts.gather(-1, order)).gather(-1, rank)
        return Sticks(self.own + seen.counts, self.rest[rank] + later, rank.to(self.own))

    def statistics_beyond(self, prior: "Sticks") -> Counts:
        """Return the counts that lead from a prior to this posterior.

        Args:
            prior: [K].
        """
        return Counts(self.own - prior.own)

    def kl(self, prior: "Sticks") -> Float[Tensor, "*R"]:
        """Return KL(self ‖ prior) in nats, without the axis of components.

        Args:
            prior: [K].
        """
        taken, left = self.expected_logs
        prior_rest = prior.rest[self.rank.long()]
        normalisers = log_beta(prior.own, prior_rest) - log_beta(self.own, self.rest)
        # Differences of parameters first: for a small concentration, E log(1 − v) is as large as its inverse.
        return ((self.own - prior.own) * taken + (self.rest - prior_rest) * left + normalisers).sum(-1)


class LearntSticks(NamedTuple):
    """Sticks with vₖ | α ~ Beta(1, α) in the prior, and α ~ Gamma(shape, rate) independent of them in q, float64."""

    own: Tensor  # [..., K]
    rest: Tensor  # [..., K]
    rank: Tensor  # [..., K]
    concentration_shape: Tensor  # [...]
    concentration_rate: Tensor  # [...]

    @property
    def sticks(self) -> Sticks:
        """The shares alone."""
        return Sticks(self.own, self.rest, self.rank)

    @property
    def concentration(self) -> Gamma:
        """The distribution of α."""
        return Gamma(self.concentration_shape, self.concentration_rate)

    @property
    def expected_log(self) -> Float[Tensor, "*R K"]:
        """E log π."""
        return self.sticks.expected_log

    @property
    def log_mean(self) -> Float[Tensor, "*R K"]:
        """log E π."""
        return self.sticks.log_mean

    @property
    def mean(self) -> Float[Tensor, "*R K"]:
        """E π over its sum."""
        return self.sticks.mean

    @property
    def weight_beyond(self) -> Float[Tensor, "*R"]:
        """Expected weight of all components beyond K."""
        return self.sticks.weight_beyond

    @property
    def n_parameters(self) -> int:
        """Number of shares, and the concentration."""
        return self.own.shape[-1] + 1

    def updated(self, seen: Counts, start: Tensor | None = None) -> "LearntSticks":
        """Return the posterior of this prior: both factors at the optimum of the bound given the counts.

        q(α) = Gamma(s₁ + K, s₂ − Σ E log(1 − v)), and q(v) is that of the concentration E α; Blei, Jordan (2006),
        appendix, with K − 1 for K there, where the last share is one.

        Args:
            seen: counts [..., K], non-negative.
            start: an E α to start from [...]; that of the prior by default.
        """
        shape = self.concentration_shape + self.own.shape[-1]
        at_zero = Sticks(self.own, torch.zeros_like(self.rest), self.rank).updated(seen)
        shape = shape.expand(at_zero.own.shape[:-1])
        alpha = (self.concentration.mean if start is None else start).expand(shape.shape)
        moving = torch.ones_like(alpha, dtype=torch.bool)
        for _ in range(MOST_STEPS):
            after = self._newton(at_zero, shape, alpha)
            moved = (after - alpha).abs() > STILL * alpha
            # Every run of the leading axes stops by itself.
            alpha, moving = torch.where(moving, after, alpha), moving & moved
            # On a GPU a step too many is cheaper than to wait for the answer.
            if moving.device.type == "cpu" and not bool(moving.any()):
                break
        return LearntSticks(at_zero.own, at_zero.rest + alpha.unsqueeze(-1), at_zero.rank, shape, shape / alpha)

    def _newton(self, at_zero: Sticks, shape: Tensor, alpha: Tensor) -> Tensor:
        """Return E α after a Newton step in its logarithm; at zero are the sticks of a concentration of zero."""
        rest = at_zero.rest + alpha.unsqueeze(-1)
        total = at_zero.own + rest
        rate = self.concentration_rate + (digamma(total) - digamma(rest)).sum(-1)
        slope = (torch.polygamma(1, rest) - torch.polygamma(1, total)).sum(-1) * alpha / rate
        step = ((shape / rate).log() - alpha.log()) / (1.0 - slope).clamp_min(0.1)
        return alpha * step.clamp(-LARGEST_STEP, LARGEST_STEP).exp()

    def statistics_beyond(self, prior: "LearntSticks") -> Counts:
        """Return the counts that lead from a prior to this posterior.

        Args:
            prior: [K].
        """
        return Counts(self.own - prior.own)

    def kl(self, prior: "LearntSticks") -> Float[Tensor, "*R"]:
        """Return KL(q(v) q(α) ‖ p(v | α) p(α)) in nats; above zero even without data, for q has them independent.

        Args:
            prior: [K].
        """
        alpha, (taken, left) = self.concentration, self.sticks.expected_logs
        at_mean = (self.own - 1.0) * taken + (self.rest - alpha.mean.unsqueeze(-1)) * left
        normalisers = alpha.expected_log.unsqueeze(-1) + log_beta(self.own, self.rest)
        return (at_mean - normalisers).sum(-1) + alpha.kl(prior.concentration)


StickBreaking = Sticks | LearntSticks


def sum_of_earlier(values: Tensor, rank: Tensor) -> Tensor:
    """Return for each component the sum of the values of those of lower rank.

    Args:
        values: [..., K].
        rank: [..., K] or [K].
    """
    rank = rank.long().expand(values.shape)
    in_order = values.gather(-1, rank.argsort(-1))
    sums = torch.cat([torch.zeros_like(in_order[..., :1]), in_order[..., :-1].cumsum(-1)], dim=-1)
    return sums.gather(-1, rank)


def log_beta(first: Tensor, second: Tensor) -> Tensor:
    """Return the logarithm of the Beta function.

    Args:
        first: above zero.
        second: above zero, of a shape that broadcasts.
    """
    return torch.lgamma(first) + torch.lgamma(second) - torch.lgamma(first + second)


def _sum_of_later(counts: Tensor) -> Tensor:
    """Return the sum of all that come after, along the last axis."""
    sums = counts.flip(-1).cumsum(-1).flip(-1)
    return torch.cat([sums[..., 1:], torch.zeros_like(sums[..., :1])], dim=-1)


def log_orders(prior: Sticks, counts: Tensor) -> Tensor:
    """Return how much more evidence all orders of breaking have than that of the largest first, in nats.

    The evidence of all orders is that of a partition, d = 1 − own, α = rest − d:
    Π (α + j d) Γ(1 + α) / Γ(N + α) Π Γ(Nₖ − d) / Γ(1 − d); Pitman (1995), proposition 9.

    Args:
        prior: of a Pitman–Yor process.
        counts: of the components that have objects [M].
    """
    discount = 1.0 - prior.own[0]
    alpha, total = prior.rest[0] - discount, counts.sum()
    new = (alpha + discount * torch.arange(1, len(counts), dtype=counts.dtype, device=counts.device)).log().sum()
    sizes = (torch.lgamma(counts - discount) - torch.lgamma(1.0 - discount)).sum()
    of_all = new + sizes + torch.lgamma(1.0 + alpha) - torch.lgamma(total + alpha)
    first, second = prior.own[: len(counts)], prior.rest[: len(counts)]
    in_order = counts.sort(descending=True).values
    after = log_beta(first + in_order, second + _sum_of_later(in_order))
    return of_all - (after - log_beta(first, second)).sum()
