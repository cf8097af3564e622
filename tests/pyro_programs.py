"""A user's own Pyro program: a Bayesian mixture of lines without the library's experts.

It is the mixture of a DirichletGate and LinearExperts. The lines' Normal-Gamma posterior q(w, τ) has parameters for an
optimiser and is integrated out in closed form, so that only the treatment of the gate can differ.
"""

import math

import pyro
import pyro.distributions as dist
import torch
from pyro.ops.indexing import Vindex
from torch import Tensor
from torch.distributions import constraints, kl_divergence

from mixpyro.gates import Gate


class HandWrittenLines:
    """K lines y | z = k ~ Normal(wₖ'[1, x], 1/τₖ), with wₖ | τₖ ~ Normal(0, (τₖ λ)⁻¹) and τₖ ~ Gamma(a₀, b₀).

    Args:
        gate: the only part taken from the library.
        x: all inputs [N, 1].
        y: all outputs [N, 1].
        start: responsibilities [N, K] that the initial lines are fitted to.
        precision: λ.
        shape: a₀.
        rate: b₀.
    """

    def __init__(
        self, gate: Gate, x: Tensor, y: Tensor, start: Tensor, *, precision: float, shape: float, rate: float
    ) -> None:
        self.gate, self.x, self.y, self.precision = gate, x, y[:, 0], precision
        self.prior = dist.Gamma(torch.tensor(shape).to(x), torch.tensor(rate).to(x))
        self.u = torch.cat([torch.ones_like(x), x], 1)
        information = torch.einsum("nk,ne,nf->kef", start, self.u, self.u) + precision * torch.eye(2).to(x)
        self.mean = torch.linalg.solve(information, torch.einsum("nk,ne,n->ke", start, self.u, self.y))
        self.spread = torch.linalg.cholesky(torch.linalg.inv(information))
        self.start_shape = shape + 0.5 * start.sum(0)
        squared = (self.y.unsqueeze(1) - self.u @ self.mean.mT).square()
        self.start_rate = rate + 0.5 * (start * squared).sum(0)

    def posterior(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return mean and Cholesky factor of the coefficients, shape and rate of the precisions."""
        k = len(self.mean)
        shift = pyro.param("shift", lambda: self.mean.new_zeros(k, 2))
        factor = pyro.param(
            "factor", lambda: torch.eye(2).to(self.mean).repeat(k, 1, 1), constraint=constraints.lower_cholesky
        )
        shape = pyro.param("shape", lambda: self.start_shape, constraint=constraints.positive)
        tau = pyro.param("tau", lambda: self.start_shape / self.start_rate, constraint=constraints.positive)
        noise = (self.start_rate / self.start_shape).sqrt().unsqueeze(-1)
        # In units of one object's noise, so that one learning rate suits few and many objects.
        mean = self.mean + noise * len(self.x) ** 0.5 * torch.einsum("kef,kf->ke", self.spread, shift)
        return mean, self.spread @ factor, shape, shape / tau

    def model(self, rows: Tensor | None = None) -> None:
        """Score the data of some rows, or of all: the Pyro model."""
        mean, factor, shape, rate = self.posterior()
        log_determinant = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        spread = self.precision * (factor.square().sum((-2, -1)) + shape / rate * mean.square().sum(-1))
        divergence = 0.5 * (spread - 2.0) - log_determinant - math.log(self.precision)
        divergence = divergence + kl_divergence(dist.Gamma(shape, rate), self.prior)
        pyro.factor("minus_kl_of_the_lines", -divergence.sum())
        plate = pyro.plate("objects", len(self.x), subsample=rows, dim=-1)
        rows = plate.indices
        z = self.gate.model(self.x[rows], plate=plate)
        with plate:
            u, y = self.u[rows], self.y[rows]
            squared = shape / rate * (y.unsqueeze(1) - u @ mean.mT).square()
            variance = torch.einsum("ne,kef->nkf", u, factor).square().sum(-1)
            log_tau = torch.digamma(shape) - rate.log() - math.log(2 * math.pi)
            pyro.factor("y", Vindex(0.5 * (log_tau - squared - variance))[torch.arange(len(rows)), z])

    def guide(self, rows: Tensor | None = None) -> None:
        """Sample nothing: the lines are integrated out, the gate has its own guide."""
