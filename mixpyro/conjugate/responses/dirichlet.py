"""Linear response of the weights of components under a Dirichlet distribution."""

from functools import cached_property

import torch
from torch import Tensor

from mixpyro.conjugate.dirichlet import Counts, Dirichlet
from mixpyro.conjugate.responses.base import Features, Response
from mixpyro.numerics.cholesky import cholesky


class DirichletResponse(Response):
    """Statistics log π, with covariance diag ψ'(m) − ψ'(Σ m); quantities log πₖ − log π₀ for k from 1 to K − 1.

    Args:
        value: Dirichlet(m), without leading axes.
    """

    def __init__(self, value: Dirichlet) -> None:
        self.value = value
        self.n_components = value.concentration.shape[-1]
        # One weight is always one, and has no variance.
        self.n_common = self.n_components if self.n_components > 1 else 0
        self.n_own = 0

    @cached_property
    def root(self) -> Tensor:
        """Lower Cholesky factor L of Cov(log π) [K, C]."""
        m = self.value.concentration
        if self.n_components == 1:
            return m.new_zeros(1, 0)
        trigamma = torch.polygamma(1, m)
        return cholesky(trigamma.diag_embed() - torch.polygamma(1, m.sum()))

    @property
    def contrasts(self) -> Tensor:
        """Matrix [K − 1, K] that takes log π to the quantities."""
        identity = torch.eye(self.n_components, dtype=torch.float64, device=self.value.concentration.device)
        return identity[1:] - identity[:1]

    @property
    def quantities(self) -> Tensor:
        """E log πₖ − E log π₀ [K − 1]; Bishop (2006), eq. 10.66."""
        digamma = torch.digamma(self.value.concentration)
        return digamma[1:] - digamma[0]

    @property
    def covariance(self) -> Tensor:
        """The product of :attr:`loadings` with itself: the quantities are linear in the statistics."""
        return self.loadings @ self.loadings.mT

    @property
    def covariance_beyond(self) -> Tensor:
        """Zero."""
        return torch.zeros_like(self.covariance)

    @property
    def loadings(self) -> Tensor:
        """Contrasts of the rows of L."""
        return self.contrasts @ self.root

    def features(self, columns: Tensor) -> Features:
        """Return row k of L for component k, the same for all rows.

        Args:
            columns: any [F, N], of which N is read.
        """
        common = self.root.unsqueeze(-1).expand(-1, -1, columns.shape[-1])
        return Features(common, common.new_zeros(self.n_components, 0, columns.shape[-1]))

    def totals(self, statistics: Counts) -> Features:
        """Return L'Σ r.

        Args:
            statistics: counts [K].
        """
        return Features(self.root.mT @ statistics.counts, self.root.new_zeros(self.n_components, 0))

    def statistics(self, sums: Features) -> Counts:
        """Return Σ r [K]; zero for one component, whose weight does not vary.

        Args:
            sums: in common [K].
        """
        if self.n_components == 1:
            return Counts(self.value.concentration.new_zeros(1))
        return Counts(torch.linalg.solve_triangular(self.root.mT, sums.common.unsqueeze(-1), upper=True).squeeze(-1))

    def of_prior(self, prior: Dirichlet) -> Features:
        """Return L'(α − 1).

        Args:
            prior: Dirichlet(α).
        """
        return self.totals(Counts(prior.concentration - 1.0))

    def expected_log_prior(self, prior: Dirichlet) -> Tensor:
        """Return E log p(π | α), with its gradient in α too.

        Args:
            prior: Dirichlet(α).
        """
        m, alpha = self.value.concentration, prior.concentration
        expected_log = torch.digamma(m) - torch.digamma(m.sum())
        return ((alpha - 1.0) * expected_log - torch.lgamma(alpha)).sum() + torch.lgamma(alpha.sum())
