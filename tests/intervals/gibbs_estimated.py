"""Gates and experts with Normal priors on coefficients, for the exact samplers.

Given the assignments the density of the coefficients is log concave and near a Normal. A few Newton steps from a fixed
start find its mode, a multivariate t there proposes, and Metropolis and Hastings accept: the move is exact however good
the proposal is.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from tests.intervals.gibbs import FREEDOM, distance, students
from tests.intervals.gibbs_conjugate import products

N_NEWTON = 3


class Expansion(NamedTuple):
    """Log density, gradient and minus Hessian at a point, but for constants."""

    value: Tensor  # [...]
    gradient: Tensor  # [..., P]
    information: Tensor  # [..., P, P]


def moved(
    current: Tensor, start: Tensor, expansion: Callable[[Tensor], Expansion], generator: Generator
) -> tuple[Tensor, Tensor]:
    """Return the state after a step of Metropolis and Hastings, and which proposals were accepted.

    Args:
        current: [..., P].
        start: where the search for the mode begins [..., P]; must not depend on ``current``.
        expansion: of the log density.
        generator: of the draws.
    """
    centre = start
    for _ in range(N_NEWTON):
        here = expansion(centre)
        step = torch.linalg.solve(here.information, here.gradient.unsqueeze(-1)).squeeze(-1)
        centre = centre + step.clamp(-2.0, 2.0)
    factor = torch.linalg.cholesky(torch.linalg.inv(expansion(centre).information))
    proposal = centre + (factor @ students(current, generator).unsqueeze(-1)).squeeze(-1)
    new, old = (
        expansion(point).value + 0.5 * (FREEDOM + point.shape[-1]) * (distance(point, centre, factor) / FREEDOM).log1p()
        for point in (proposal, current)
    )
    uniform = torch.rand(current.shape[:-1], generator=generator, dtype=current.dtype)
    accepted = uniform.log() < new - old
    return torch.where(accepted.unsqueeze(-1), proposal, current), accepted


class SoftmaxWeights:
    """Weights softmax(0, c₂'u, …) with c ~ Normal(0, s²); quantities are the coefficients c.

    Args:
        prior_scale: s.
        design: u = [1, x] [B, N, E].
        start: coefficients near the mode [B, K − 1, E].
    """

    is_estimated = True

    def __init__(self, prior_scale: float, design: Tensor, start: Tensor) -> None:
        self.prior_scale, self.design, self.start = prior_scale, design, start.flatten(1)
        self.n_free, self.sizes = start.shape[1], (design.shape[-1],)
        self.products = products(design)
        self.identity = torch.eye(self.n_free, dtype=design.dtype)
        self.ridge = torch.eye(self.start.shape[-1], dtype=design.dtype) / prior_scale**2

    def draw(self, r: Tensor, quantities: Tensor | None, generator: Generator) -> Tensor:
        """Move the coefficients, all components together."""
        current = self.start if quantities is None else quantities
        return moved(current, self.start, lambda point: self.expansion(point, r), generator)[0]

    def log_prior(self, quantities: Tensor) -> Tensor:
        """Return −|c|² / 2s²."""
        return -0.5 * quantities.square().sum(-1) / self.prior_scale**2

    def log_density(self, quantities: Tensor) -> Tensor:
        """Return log π [B, K, N]."""
        logits = quantities.unflatten(-1, (self.n_free, -1)) @ self.design.mT
        return torch.cat([torch.zeros_like(logits[:, :1]), logits], -2).log_softmax(-2)

    def expansion(self, point: Tensor, r: Tensor) -> Expansion:
        """Return that of Σ r log π − |c|² / 2s² of all coefficients [B, (K − 1) E]; Böhning (1992), section 2."""
        log_weights = self.log_density(point)
        weights = log_weights[:, 1:].exp()
        value = (r * log_weights).sum((-2, -1)) + self.log_prior(point)
        gradient = ((r[:, 1:] - weights) @ self.design).flatten(1) - point / self.prior_scale**2
        pairs = self.identity[..., None] * weights.unsqueeze(-2) - weights.unsqueeze(-2) * weights.unsqueeze(-3)
        e = self.design.shape[-1]
        blocks = (pairs.flatten(1, 2) @ self.products).unflatten(-1, (e, e)).unflatten(1, (self.n_free, self.n_free))
        information = blocks.transpose(-3, -2).flatten(-2).flatten(1, 2)
        return Expansion(value, gradient, information + self.ridge)


class PoissonRegressions:
    """Counts y ~ Poisson(exp(c'u)) with c ~ Normal(0, s²); quantities are the coefficients c.

    Args:
        prior_scale: s.
        design: u = [1, x] [B, N, E].
        y: [B, N].
        start: coefficients near the mode [B, K, E].
    """

    is_estimated = True

    def __init__(self, prior_scale: float, design: Tensor, y: Tensor, start: Tensor) -> None:
        self.prior_scale, self.design, self.y, self.start = prior_scale, design, y.unsqueeze(1), start
        self.sizes, self.products = (design.shape[-1],), products(design)
        self.ridge = torch.eye(start.shape[-1], dtype=design.dtype) / prior_scale**2

    def draw(self, r: Tensor, quantities: Tensor | None, generator: Generator) -> Tensor:
        """Move each component's coefficients."""
        current = self.start if quantities is None else quantities.view_as(self.start)
        return moved(current, self.start, lambda point: self.expansion(point, r), generator)[0].flatten(1)

    def log_prior(self, quantities: Tensor) -> Tensor:
        """Return −|c|² / 2s²."""
        return -0.5 * quantities.square().sum(-1) / self.prior_scale**2

    def log_density(self, quantities: Tensor) -> Tensor:
        """Return y c'u − exp(c'u) [B, K, N]."""
        predictors = quantities.view_as(self.start) @ self.design.mT
        return self.y * predictors - predictors.exp()

    def expansion(self, point: Tensor, r: Tensor) -> Expansion:
        """Return that of Σ r (y c'u − exp(c'u)) − |c|² / 2s² of each component; McCullagh, Nelder (1989), 2.5."""
        predictors = point @ self.design.mT
        rates = predictors.exp()
        value = (r * (self.y * predictors - rates)).sum(-1) + self.log_prior(point)
        gradient = (r * (self.y - rates)) @ self.design - point / self.prior_scale**2
        e = self.design.shape[-1]
        information = ((r * rates) @ self.products).unflatten(-1, (e, e))
        return Expansion(value, gradient, information + self.ridge)
