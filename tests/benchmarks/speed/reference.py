"""The formulas of the hyper models that ours replace, in plain PyTorch: an oracle, and what to be faster than.

Written from their documentation. The normaliser of the global Dirichlet is ψ(K μ + N) there, which is right only where
every μ is one and the rows of Z sum to one. Nothing is checked.
"""

import torch
from torch import Tensor


class ReferenceDirichlet:
    """One Dirichlet for all objects: a row for each object is its number times a matrix of ones."""

    def __init__(self, output_dim: int) -> None:
        self.output_dim = output_dim
        self.mu = torch.ones(output_dim)
        self.m, self.n = self.mu.clone(), 0

    def e_step(self, z: Tensor) -> None:
        """m = μ + Σᵢ Zᵢ."""
        self.m, self.n = self.mu + z.sum(0), len(z)

    def log_pi_expectation(self, x: Tensor) -> Tensor:
        """ψ(mₖ) − ψ(K μₖ + N) [N, K]."""
        row = torch.digamma(self.m) - torch.digamma(self.output_dim * self.mu + self.n)
        return torch.ones(len(x), self.output_dim) * row

    def predict_pi(self, x: Tensor) -> Tensor:
        """m / Σm [N, K]."""
        return torch.ones(len(x), self.output_dim) * (self.m / self.m.sum())


class ReferenceGateSparsed:
    """A Dirichlet an object."""

    def __init__(self, output_dim: int, gamma: float = 1.0) -> None:
        self.gamma, self.mu = gamma, torch.full((output_dim,), 1.0 / output_dim)

    def e_step(self, z: Tensor) -> None:
        """mᵢ = γμ + Zᵢ, its sum γᵢ, and its mean μᵢ."""
        m = self.gamma * self.mu + z
        self.gamma_posterior = m.sum(-1, keepdim=True)
        self.mu_posterior = m / self.gamma_posterior

    def log_pi_expectation(self, x: Tensor) -> Tensor:
        """ψ(γᵢ μᵢₖ) − ψ(γᵢ) [N, K]."""
        return torch.digamma(self.gamma_posterior * self.mu_posterior) - torch.digamma(self.gamma_posterior)

    def predict_pi(self, x: Tensor) -> Tensor:
        """μᵢ [N, K], to be changed without changing the posterior."""
        return self.mu_posterior.clone()
