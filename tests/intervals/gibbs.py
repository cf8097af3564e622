"""Exact samplers of mixtures of experts, for many data sets at once, against which intervals are measured.

A chain of its own samples the posterior of each data set. A sweep draws the gate's and the experts' parameters given
the assignments z, then z given these; Diebolt, Robert (1994), section 3. Where components overlap, hundreds of sweeps
make one independent draw. So a step of Metropolis and Hastings may follow in each sweep, with z summed out.
"""

from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor

# Degrees of freedom of the proposals, whose tails must be wider than a Normal's.
FREEDOM = 5.0


class Sampler(Protocol):
    """A gate or experts of B data sets, with the quantities of linear response in its order."""

    @property
    def is_estimated(self) -> bool:
        """Whether the library estimates these parameters, so that linear response names them last."""

    @property
    def sizes(self) -> Sequence[int]:
        """How many numbers a component has of each kind of quantity; a gate's are relative to the first component."""

    def draw(self, r: Tensor, quantities: Tensor | None, generator: Generator) -> Tensor:
        """Return quantities [B, Q] from the conditional, or after a step that leaves it invariant.

        Args:
            r: assignments, ones and zeros [B, K, N].
            quantities: before the step, or None at the start.
            generator: of the draws.
        """

    def log_prior(self, quantities: Tensor) -> Tensor:
        """Return the log density of quantities [B, Q], with respect to them and but for constants [B]."""

    def log_density(self, quantities: Tensor) -> Tensor:
        """Return log πₖ [B, K, N] or [B, K, 1], or log p(yᵢ | k) [B, K, N], but for constants."""


class Pair(NamedTuple):
    """A gate and experts."""

    gate: Sampler
    experts: Sampler
    n_components: int

    def joined(self, gate: Tensor, experts: Tensor) -> Tensor:
        """Return the quantities [..., Q] of both in the order of linear response."""
        return torch.cat([experts, gate] if self._gate_is_last else [gate, experts], -1)

    def split(self, quantities: Tensor) -> tuple[Tensor, Tensor]:
        """Return the quantities of the gate and of the experts."""
        n_gate = (self.n_components - 1) * sum(self.gate.sizes)
        if self._gate_is_last:
            return quantities[..., quantities.shape[-1] - n_gate :], quantities[..., : quantities.shape[-1] - n_gate]
        return quantities[..., :n_gate], quantities[..., n_gate:]

    def log_joint(self, quantities: Tensor) -> Tensor:
        """Return the log density of quantities and data with the assignments summed out [B], but for constants."""
        gate, experts = self.split(quantities)
        rows = (self.gate.log_density(gate) + self.experts.log_density(experts)).logsumexp(-2)
        return self.gate.log_prior(gate) + self.experts.log_prior(experts) + rows.sum(-1)

    def permuted(self, quantities: Tensor, order: Sequence[int]) -> Tensor:
        """Return quantities [..., Q] with the components in another order: which comes first, second, …."""
        gate, experts = self.split(quantities)
        k = self.n_components
        ratios = gate.unflatten(-1, (k - 1, -1))
        full = torch.cat([torch.zeros_like(ratios[..., :1, :]), ratios], -2)[..., list(order), :]
        kinds = experts.split([k * size for size in self.experts.sizes], -1)
        moved = [kind.unflatten(-1, (k, -1))[..., list(order), :].flatten(-2) for kind in kinds]
        return self.joined((full[..., 1:, :] - full[..., :1, :]).flatten(-2), torch.cat(moved, -1))

    def aligned(self, draws: Tensor, reference: Tensor, scale: Tensor) -> Tensor:
        """Return draws [S, B, Q] with the components of each in the order that is nearest to a reference.

        Args:
            draws: of both.
            reference: [B, Q].
            scale: unit of the distance of each quantity [B, Q].
        """
        orders = torch.stack([self.permuted(draws, order) for order in permutations(range(self.n_components))])
        nearest = ((orders - reference) / scale).square().sum(-1).argmin(0)
        return orders.take_along_dim(nearest[None, ..., None], 0)[0]

    @property
    def _gate_is_last(self) -> bool:
        return self.gate.is_estimated and not self.experts.is_estimated


class Proposal(NamedTuple):
    """A multivariate t of five degrees of freedom for each data set."""

    centre: Tensor  # [B, Q]
    covariance: Tensor  # [B, Q, Q]


def gibbs(
    pair: Pair,
    z: Tensor,
    *,
    n_draws: int,
    thin: int = 1,
    start: Tensor | None = None,
    proposal: Proposal | None = None,
    seed: int = 0,
) -> Tensor:
    """Return draws [S, B, Q] from the posteriors of B data sets.

    A fifth more sweeps come first and are left out. Labels are those of the start; they may switch.

    Args:
        pair: of a gate and experts.
        z: assignments to start from [B, N].
        n_draws: S.
        thin: sweeps for each draw.
        start: quantities to start from [B, Q]; by default those of proposals.
        proposal: for a step with the assignments summed out in each sweep: independent of the state in every second
            one, else a random walk.
        seed: of the draws.
    """
    generator = Generator().manual_seed(seed)
    r = torch.nn.functional.one_hot(z, pair.n_components).double().mT
    parts: tuple[Tensor | None, Tensor | None] = (None, None) if start is None else pair.split(start)
    factor = None if proposal is None else torch.linalg.cholesky(proposal.covariance)
    draws = []
    for sweep in range(-(n_draws * thin // 5), n_draws * thin):
        drawn = (pair.gate.draw(r, parts[0], generator), pair.experts.draw(r, parts[1], generator))
        quantities = pair.joined(*drawn)
        if proposal is not None and factor is not None:
            centre = proposal.centre if sweep % 2 else None
            quantities = stepped(pair, quantities, centre, factor, generator)
        parts = pair.split(quantities)
        log_joint = pair.gate.log_density(parts[0]) + pair.experts.log_density(parts[1])
        r = assignments(log_joint.softmax(-2), generator)
        if sweep >= 0 and sweep % thin == thin - 1:
            draws.append(quantities)
    return torch.stack(draws)


def stepped(pair: Pair, current: Tensor, centre: Tensor | None, factor: Tensor, generator: Generator) -> Tensor:
    """Return quantities after a step of Metropolis and Hastings with the assignments summed out.

    Args:
        pair: whose density it is.
        current: [B, Q].
        centre: of proposals that do not depend on the state [B, Q]; None for a random walk.
        factor: lower Cholesky factor of the proposals' covariance [B, Q, Q].
        generator: of the draws.
    """
    n_quantities = current.shape[-1]
    if centre is None:
        # Roberts, Gelman, Gilks (1997), with scales from a third of theirs on.
        share = 0.3 + 0.7 * torch.rand(len(current), 1, generator=generator, dtype=current.dtype)
        step = (factor @ normals(current, generator).unsqueeze(-1)).squeeze(-1)
        proposal = current + 2.4 / n_quantities**0.5 * share * step
        log_ratio = pair.log_joint(proposal) - pair.log_joint(current)
    else:
        proposal = centre + (factor @ students(current, generator).unsqueeze(-1)).squeeze(-1)
        new, old = (
            pair.log_joint(point) + 0.5 * (FREEDOM + n_quantities) * (distance(point, centre, factor) / FREEDOM).log1p()
            for point in (proposal, current)
        )
        log_ratio = new - old
    uniform = torch.rand(len(current), generator=generator, dtype=current.dtype)
    return torch.where((uniform.log() < log_ratio).unsqueeze(-1), proposal, current)


def distance(point: Tensor, centre: Tensor, factor: Tensor) -> Tensor:
    """Return |L⁻¹ (point − centre)|² of a lower triangular factor L."""
    difference = (point - centre).unsqueeze(-1)
    return torch.linalg.solve_triangular(factor, difference, upper=False).square().sum((-2, -1))


def assignments(probabilities: Tensor, generator: Generator) -> Tensor:
    """Draw a component for each row, ones and zeros [B, K, N].

    Args:
        probabilities: [B, K, N].
        generator: of the draws.
    """
    uniform = torch.rand(probabilities[:, :1].shape, generator=generator, dtype=probabilities.dtype)
    reached = (uniform < probabilities.cumsum(-2)).double()
    # Rounding may leave the sum below one.
    reached[:, -1] = 1.0
    return torch.cat([reached[:, :1], reached[:, 1:] - reached[:, :-1]], 1)


def normals(like: Tensor, generator: Generator) -> Tensor:
    """Draw standard Normals in the shape of a tensor."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype)


def students(like: Tensor, generator: Generator) -> Tensor:
    """Draw multivariate t vectors [..., P] in the shape of a tensor."""
    chi_square = 2.0 * torch._standard_gamma(like.new_full((*like.shape[:-1], 1), 0.5 * FREEDOM), generator)
    return normals(like, generator) * (FREEDOM / chi_square).sqrt()
