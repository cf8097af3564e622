"""Adaptive importance sampling of a mixture's parameters, labels of components taken into account.

The posterior has a mode for every order of the components. Draws are taken to the order that the first proposal finds
most probable, and weighted by the density of all orders together: they represent the posterior near one mode.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.diagnostics.importance_sampling import pareto_smoothed
from mixpyro.intervals.densities import LogJoint
from mixpyro.intervals.proposals import Proposal, StudentT
from mixpyro.intervals.relabelling import Relabelling
from mixpyro.numerics.random_numbers import nothing_drawn

# Degrees of freedom of adapted proposals.
FREEDOM = 5.0
# Draws of a round at least, for each coordinate, whose covariance they must tell, and for each draw wanted.
DRAWS_OF_ROUND, DRAWS_PER_COORDINATE, DRAWS_PER_WANTED = 1500, 20, 2


class Weighted(NamedTuple):
    """Draws with importance weights that sum to one, their largest smoothed."""

    theta: Tensor  # [S, Q]
    weights: Tensor  # [S]
    khat: float
    n_rounds: int

    @property
    def n_effective(self) -> float:
        """1 / Σ w²; Kong (1992)."""
        return float(self.weights.square().sum().reciprocal())

    @property
    def mean(self) -> Float[Tensor, " Q"]:
        """Weighted mean of the draws."""
        return self.weights @ self.theta

    @property
    def covariance(self) -> Float[Tensor, "Q Q"]:
        """Weighted covariance of the draws."""
        deviation = self.theta - self.mean
        return (deviation * self.weights.unsqueeze(-1)).mT @ deviation

    def resampled(self, n_draws: int) -> Float[Tensor, "S Q"]:
        """Return draws of equal weights in random order, by systematic resampling.

        Args:
            n_draws: how many.
        """
        first = torch.rand((), dtype=torch.float32, device=self.weights.device)
        points = (torch.arange(n_draws, device=self.weights.device) + first) / n_draws
        chosen = torch.searchsorted(self.weights.cumsum(0), points.double()).clamp_max(len(self.theta) - 1)
        return self.theta[chosen[torch.randperm(n_draws, device=chosen.device)]]


class Sampling:
    """Importance sampling from one proposal after another, all draws weighted together.

    Weights are those of the mixture of all proposals; Cornuet, Marin, Mira, Robert (2012), Adaptive multiple importance
    sampling, algorithm 1.

    Args:
        log_joint: log p(y, θ).
        relabelling: orders of the components.
        first: the first proposal, whose order of the components all draws are taken to.
    """

    def __init__(self, log_joint: LogJoint, relabelling: Relabelling, first: Proposal) -> None:
        self.log_joint, self.relabelling, self.first = log_joint, relabelling, first
        self._proposals: list[Proposal] = []
        self._theta: list[Tensor] = []  # of every round
        self._target: list[Tensor] = []
        self._density: list[Tensor] = []  # log of the sum of all proposals

    def round(self, proposal: Proposal, n_draws: int) -> Weighted:
        """Add draws of a proposal, and return all so far with their weights.

        Args:
            proposal: of this round.
            n_draws: that are wanted in the end; a round has more.
        """
        size = self.log_joint.parameters.size
        n_draws = max(DRAWS_OF_ROUND, DRAWS_PER_COORDINATE * size, DRAWS_PER_WANTED * n_draws)
        drawn = proposal.sample(n_draws)
        with nothing_drawn():
            return self._with_round(drawn, proposal)

    def _with_round(self, drawn: Tensor, proposal: Proposal) -> Weighted:
        """Return all draws so far, those of a new round among them, with their weights."""
        own = self.in_order(drawn)
        self._density = [
            torch.logaddexp(density, self._log_density(theta, proposal))
            for theta, density in zip(self._theta, self._density, strict=True)
        ]
        self._proposals.append(proposal)
        self._theta.append(own)
        self._target.append(self.log_joint(own))
        self._density.append(torch.stack([self._log_density(own, one) for one in self._proposals]).logsumexp(0))
        log_ratios = torch.cat(self._target) - torch.cat(self._density) + math.log(len(self._proposals))
        return _weighted(torch.cat(self._theta), log_ratios, len(self._proposals))

    def in_order(self, theta: Float[Tensor, "S Q"]) -> Float[Tensor, "S Q"]:
        """Return draws with components in the order that is most probable under the first proposal.

        Args:
            theta: draws.
        """
        if len(self.relabelling.orders) == 1:
            return theta
        best, highest = theta, torch.full_like(theta[:, 0], -torch.inf)
        for image in self.relabelling.images(theta):
            density = self.first.log_prob(image)
            best = torch.where((density > highest).unsqueeze(-1), image, best)
            highest = torch.maximum(highest, density)
        return best

    def _log_density(self, theta: Tensor, proposal: Proposal) -> Tensor:
        """Return the log density of draws under a proposal, in any order of the components."""
        total = torch.full_like(theta[:, 0], -torch.inf)
        for image in self.relabelling.images(theta):
            total = torch.logaddexp(total, proposal.log_prob(image))
        return total


def adapted(found: Weighted, covariance: Tensor) -> StudentT:
    """Return a t of the draws' mean and covariance, the latter nearer to a given one the fewer draws tell it.

    Args:
        found: weighted draws.
        covariance: where draws do not tell more [Q, Q].
    """
    share = found.n_effective / (found.n_effective + len(covariance))
    return StudentT(found.mean, share * found.covariance + (1.0 - share) * covariance, FREEDOM)


def _weighted(theta: Tensor, log_ratios: Tensor, n_rounds: int) -> Weighted:
    """Return draws with smoothed weights."""
    finite = torch.where(log_ratios.isnan(), -torch.inf, log_ratios).cpu().numpy()
    if not np.isfinite(finite).any():
        return Weighted(theta, torch.full_like(log_ratios, 1.0 / len(theta)), math.inf, n_rounds)
    lowest = finite.max() - 1e3  # whose weight is zero
    smoothed = pareto_smoothed(np.maximum(finite, lowest))
    weights = torch.as_tensor(np.exp(smoothed.log_weights), dtype=theta.dtype, device=theta.device)
    return Weighted(theta, weights / weights.sum(), float(smoothed.pareto_k), n_rounds)
