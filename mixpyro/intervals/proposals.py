"""Distributions of the free parameters that can be drawn from and whose density is known."""

import math
from typing import Any

import torch
from jaxtyping import Float
from pyro import poutine
from torch import Tensor

from mixpyro.intervals.free_parameters import FreeParameters
from mixpyro.mixture import MixtureOfExperts
from mixpyro.pyro_internals.plates import objects_plate
from mixpyro.pyro_internals.traces import log_densities, total_density, traced

# Least eigenvalue of a correlation matrix that a root is taken of; below, a covariance has no digits of a direction.
LEAST_CORRELATION = 1e-13


class Proposal:
    """A distribution of Q coordinates."""

    def sample(self, n_draws: int) -> Float[Tensor, "S Q"]:
        """Return independent draws.

        Args:
            n_draws: S.
        """
        raise NotImplementedError

    def log_prob(self, theta: Float[Tensor, "S Q"]) -> Float[Tensor, " S"]:
        """Return log densities in nats [S].

        Args:
            theta: coordinates.
        """
        raise NotImplementedError


class StudentT(Proposal):
    """Multivariate t distribution; heavier tails than the Normal, so that importance weights are bounded more often.

    Args:
        location: [Q].
        scale: positive definite [Q, Q]; the covariance is ν / (ν − 2) times as large.
        freedom: ν.
    """

    def __init__(self, location: Tensor, scale: Tensor, freedom: float) -> None:
        self.location, self.freedom = location, freedom
        self.root = root_of(scale)

    @classmethod
    def with_covariance(cls, mean: Tensor, covariance: Tensor, freedom: float) -> "StudentT":
        """Return the distribution of a mean and a covariance.

        Args:
            mean: [Q].
            covariance: [Q, Q].
            freedom: ν, above 2.
        """
        return cls(mean, covariance * ((freedom - 2.0) / freedom), freedom)

    def sample(self, n_draws: int) -> Float[Tensor, "S Q"]:
        """Return independent draws; arguments as :meth:`Proposal.sample`."""
        normal = torch.randn(n_draws, len(self.location), dtype=torch.float64, device=self.location.device)
        half = torch.tensor(0.5 * self.freedom, dtype=torch.float32, device="cpu")
        gamma = torch.distributions.Gamma(half, half).sample((n_draws, 1))
        return self.location + normal @ self.root.mT * gamma.to(normal).rsqrt()

    def log_prob(self, theta: Float[Tensor, "S Q"]) -> Float[Tensor, " S"]:
        """Return log densities in nats; arguments as :meth:`Proposal.log_prob`."""
        size, nu = len(self.location), self.freedom
        standard = torch.linalg.solve_triangular(self.root, (theta - self.location).mT, upper=False)
        constant = math.lgamma(0.5 * (nu + size)) - math.lgamma(0.5 * nu) - 0.5 * size * math.log(nu * math.pi)
        distance = standard.square().sum(0)
        return constant - self.root.diagonal().log().sum() - 0.5 * (nu + size) * torch.log1p(distance / nu)


class MeanField(Proposal):
    """The analytic posterior of a mixture all of whose parameters have one.

    Args:
        mixture: in float64, without estimated parameters.
        parameters: its coordinates.
    """

    def __init__(self, mixture: MixtureOfExperts, parameters: FreeParameters) -> None:
        self.mixture, self.parameters = mixture, parameters

    def sample(self, n_draws: int) -> Float[Tensor, "S Q"]:
        """Return independent draws; arguments as :meth:`Proposal.sample`."""
        nodes: dict[str, Any] = dict(self._trace(n_draws, {}).nodes)
        return self.parameters.joined(
            {site.name: nodes[site.name]["value"].squeeze(1) for site in self.parameters.sites}
        )

    def log_prob(self, theta: Float[Tensor, "S Q"]) -> Float[Tensor, " S"]:
        """Return log densities in nats; arguments as :meth:`Proposal.log_prob`."""
        values = {name: value.unsqueeze(1) for name, value in self.parameters.values(theta).items()}
        densities = log_densities(self._trace(len(theta), values), list(values), len(theta))
        return self.parameters.log_jacobian(theta) + total_density(densities, len(theta))

    @torch.no_grad()
    def _trace(self, n_draws: int, values: dict[str, Tensor]) -> poutine.Trace:
        """Run both guides for S draws, with given values."""
        gate, experts = self.mixture.gate, self.mixture.experts
        like = next(iter(self.mixture.buffers()))
        x = torch.zeros(1, experts.n_features, dtype=torch.float64, device=like.device)

        def guide() -> None:
            experts.guide(x)
            if gate.has_free_weights:
                gate.guide_of_rows(x, (objects_plate(x),))

        return traced(poutine.condition(guide, data=values), self.mixture, n_draws)


def root_of(covariance: Float[Tensor, "Q Q"]) -> Float[Tensor, "Q Q"]:
    """Return a lower triangular root of a covariance, of its nearest positive definite one where it is none.

    Args:
        covariance: symmetric, of finite numbers with a positive diagonal.
    """
    scale = covariance.diagonal().sqrt()
    correlation = covariance / scale / scale.unsqueeze(-1)
    factor, failed = torch.linalg.cholesky_ex(correlation)
    if bool(failed):
        values, vectors = torch.linalg.eigh(correlation)
        mended = (vectors * values.clamp_min(LEAST_CORRELATION)) @ vectors.mT
        jitter = LEAST_CORRELATION * torch.eye(len(mended), dtype=mended.dtype, device=mended.device)
        factor = torch.linalg.cholesky(0.5 * (mended + mended.mT) + jitter)
    return scale.unsqueeze(-1) * factor
