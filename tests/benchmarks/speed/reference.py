"""Formulas of the reference's hyper models in plain torch, to compare results and times with.

They are written from its documentation. The normaliser of the one Dirichlet is ψ(K μ + N) there, which is right only
where every μ is one and the rows of Z sum to one. Arguments are not checked.
"""

import torch
from torch import Tensor


class ReferenceDirichlet:
    """One Dirichlet for all objects; results [N, K] are made by multiplying a matrix of ones."""

    def __init__(self, output_dim: int) -> None:
        self.output_dim = output_dim
        self.mu = torch.ones(output_dim)
        self.m, self.n = self.mu.clone(), 0

    def e_step(self, z: Tensor) -> None:
        """Set m = μ + Σᵢ Zᵢ."""
        self.m, self.n = self.mu + z.sum(0), len(z)

    def log_pi_expectation(self, x: Tensor) -> Tensor:
        """Return ψ(mₖ) − ψ(K μₖ + N) [N, K]."""
        row = torch.digamma(self.m) - torch.digamma(self.output_dim * self.mu + self.n)
        return torch.ones(len(x), self.output_dim) * row

    def predict_pi(self, x: Tensor) -> Tensor:
        """Return m / Σm [N, K]."""
        return torch.ones(len(x), self.output_dim) * (self.m / self.m.sum())


class ReferenceGateSparsed:
    """A Dirichlet for each object."""

    def __init__(self, output_dim: int, gamma: float = 1.0) -> None:
        self.gamma, self.mu = gamma, torch.full((output_dim,), 1.0 / output_dim)

    def e_step(self, z: Tensor) -> None:
        """Set mᵢ = γμ + Zᵢ, as its sum γᵢ and its mean μᵢ."""
        m = self.gamma * self.mu + z
        self.gamma_posterior = m.sum(-1, keepdim=True)
        self.mu_posterior = m / self.gamma_posterior

    def log_pi_expectation(self, x: Tensor) -> Tensor:
        """Return ψ(γᵢ μᵢₖ) − ψ(γᵢ) [N, K]."""
        return torch.digamma(self.gamma_posterior * self.mu_posterior) - torch.digamma(self.gamma_posterior)

    def predict_pi(self, x: Tensor) -> Tensor:
        """Return μᵢ [N, K], a copy."""
        return self.mu_posterior.clone()
