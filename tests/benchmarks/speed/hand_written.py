"""A hand-written loop in PyTorch to compare with, and our iterations one at a time."""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts
from mixpyro.fitting import em
from mixpyro.fitting.gradient.m_steps import GradientMSteps
from mixpyro.fitting.table import checked_table
from mixpyro.numerics import nested
from tests.benchmarks.speed.harness import fastest


class Problem(NamedTuple):
    """Data on planes through the origin, with noise."""

    x: Tensor  # [N, D]
    y: Tensor  # [N]
    z: Tensor  # the component of each [N]


def problem(n_objects: int, n_features: int, n_components: int, dtype: torch.dtype = torch.float32) -> Problem:
    """Draw data with noise of standard deviation 0.3 and coefficients of standard deviation 3."""
    generator = Generator().manual_seed(0)
    x = torch.randn(n_objects, n_features, generator=generator, dtype=dtype)
    coefficients = 3.0 * torch.randn(n_components, n_features, generator=generator, dtype=dtype)
    z = torch.randint(n_components, (n_objects,), generator=generator)
    noise = torch.randn(n_objects, generator=generator, dtype=dtype)
    return Problem(x, (x * coefficients[z]).sum(-1) + 0.3 * noise, z)


class HandWritten:
    """Variational EM for Bayesian linear regressions with Dirichlet weights; no intercept, all rows at once."""

    def __init__(self, x: Tensor, y: Tensor, n_components: int, *, seed: int = 0) -> None:
        self.x, self.y, self.k, dtype = x, y, n_components, x.dtype
        size = x.shape[1]
        generator = Generator().manual_seed(seed)
        self.mean = torch.randn(size, n_components, generator=generator, dtype=dtype)
        self.covariance = torch.eye(size, dtype=dtype).repeat(n_components, 1, 1)
        self.concentration, self.beta = torch.ones(n_components, dtype=dtype), torch.ones(n_components, dtype=dtype)

    def iterate(self) -> float:
        """Make one iteration; return the log evidence in nats."""
        x, y = self.x, self.y
        log_weights = torch.digamma(self.concentration) - torch.digamma(self.concentration.sum())
        log_joint = -0.5 * self.beta * self._squares() + 0.5 * torch.log(self.beta / (2 * math.pi)) + log_weights
        evidence = torch.logsumexp(log_joint, 1, keepdim=True)
        r = torch.exp(log_joint - evidence)
        self.concentration = 1.0 + r.sum(0)
        gram = torch.stack([x.T @ (x * r[:, k : k + 1]) for k in range(self.k)])
        target = (r * y[:, None]).T @ x
        precision = torch.eye(x.shape[1], dtype=x.dtype) + self.beta[:, None, None] * gram
        self.covariance = torch.linalg.inv(precision)
        self.mean = torch.linalg.solve(precision, (self.beta[:, None] * target)[..., None])[..., 0].T
        self.beta = r.sum(0) / (r * self._squares()).sum(0)
        return float(evidence.sum())

    def _squares(self) -> Tensor:
        """Return (y − m'x)² + x'Sx [N, K]."""
        residual = self.y[:, None] - self.x @ self.mean
        factor = torch.linalg.cholesky(self.covariance)
        spread = torch.stack([(self.x @ factor[k]).square().sum(-1) for k in range(self.k)], 1)
        return residual.square() + spread


class Ours:
    """The iterations of :func:`mixpyro.fit`, one at a time, of a mixture with an intercept.

    Args:
        x: inputs [N, D].
        y: outputs [N].
        n_components: K.
        z: component that gets most of the responsibility for each object at the start [N]; random by default.
    """

    def __init__(self, x: Tensor, y: Tensor, n_components: int, z: Tensor | None = None) -> None:
        self.mixture = MixtureOfExperts(DirichletGate(n_components), LinearExperts(n_components, x.shape[1])).to(
            x.device
        )
        self.by_gradient = GradientMSteps(n_steps=1)
        with torch.no_grad():
            table = checked_table(self.mixture, x, y, None, None)
            self.mixture.experts.centre(table.x, table.y)
            self.table = table.with_columns(self.mixture.experts)
            if z is None:
                generator = Generator().manual_seed(1)
                start = torch.rand(n_components, len(x), generator=generator, dtype=x.dtype).mT.to(x.device)
            else:
                start = 0.1 + torch.nn.functional.one_hot(z, n_components).to(x.dtype)
            snapshot = em.start(self.mixture, self.table, start.div_(start.sum(-1, keepdim=True)))
            self.step: em.EStep | em.Snapshot = nested.stack([snapshot])
            self.state = self.step.state

    @torch.no_grad()
    def iterate(self) -> float:
        """Make one iteration; return the bound in nats."""
        self.state = em.update(self.mixture, self.state, self.step, self.table, self.by_gradient)
        self.step = step = em.e_step(self.mixture, self.state, self.table)
        return float(step.evidence[0, 0])

    def fitted(self) -> MixtureOfExperts:
        """Return the mixture with the posteriors of the last iteration."""
        self.mixture.hold(nested.select(self.state, 0))
        return self.mixture


def seconds_of_one(x: Tensor, y: Tensor, n_components: int, *, repeats: int) -> list[float]:
    """Return the seconds of one iteration of ours and of the hand-written loop."""
    ours, by_hand = Ours(x, y, n_components), HandWritten(x, y, n_components)
    return fastest(ours.iterate, by_hand.iterate, repeats=repeats)
