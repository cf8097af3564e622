"""What linear response asks of a family of posteriors.

The log joint density of an object and component k is tₖ'T, with sufficient statistics T of the parameters. Under q the
statistics have the covariance V = L L'. In the coordinates u with T = L u + constant they are uncorrelated and of
variance one, and an object has the features L'tₖ. Everything is computed in these coordinates: no large V is made,
stored or inverted, and sums of features have no cancellation.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro.shapes import Value


class Features(NamedTuple):
    """Coefficients on u, of every row and component, or sums of them over rows without the last axis."""

    common: Tensor  # [K, C, N] on statistics that components have in common; a sum is [C]
    own: Tensor  # [K, O, N] on those of the component alone; a sum is [K, O]

    @property
    def flat(self) -> Tensor:
        """Sums as one vector [C + K O], the common ones first."""
        return torch.cat([self.common, self.own.flatten()])


class Response:
    """Linear response of one posterior value of K components, without leading axes.

    A new family gives all members, and a line in :mod:`mixpyro.conjugate.responses.registry`. Quantities are real
    numbers without limits, such as coefficients and log precisions.
    """

    n_components: int
    n_common: int
    n_own: int
    # Whether the statistics of a row are all that the posterior's update reads.
    is_closed: bool = True
    # Whether the first of the columns is one.
    has_constant: bool = True

    @property
    def quantities(self) -> Tensor:
        """E_q[g] of the Q quantities of interest g [Q], with its gradient."""
        raise NotImplementedError

    @property
    def covariance(self) -> Tensor:
        """Cov_q(g) [Q, Q]."""
        raise NotImplementedError

    @property
    def loadings(self) -> Tensor:
        """Cov_q(g, u) [Q, C + K O]."""
        raise NotImplementedError

    @property
    def covariance_beyond(self) -> Tensor:
        """Part of Cov_q(g) that is uncorrelated with the statistics [Q, Q]; zero for a g that is one of them."""
        return self.covariance - self.loadings @ self.loadings.mT

    def features(self, columns: Tensor) -> Features:
        """Return the features of rows, which are polynomials of degree two in the columns.

        Args:
            columns: what the part's formulas read of N rows [F, N], float64.
        """
        raise NotImplementedError

    def totals(self, statistics: Value) -> Features:
        """Return sums of features over rows from sums of the family's statistics.

        Args:
            statistics: as the part's ``statistics_of`` returns them, or a difference of two such.
        """
        raise NotImplementedError

    def statistics(self, sums: Features) -> Value:
        """Return statistics that have given sums of features; inverse of :meth:`totals`.

        What components or outputs share is divided evenly among them.

        Args:
            sums: without the axis of rows, such as a change of the natural parameters.
        """
        raise NotImplementedError

    def of_prior(self, prior: Value) -> Features:
        """Return the features of the log density of a prior.

        Args:
            prior: of the same kind as the posterior.
        """
        raise NotImplementedError

    def expected_log_prior(self, prior: Value) -> Tensor:
        """Return E_q[log p] in nats, up to a constant, with its gradient in q.

        Args:
            prior: p, of the same kind as the posterior.
        """
        raise NotImplementedError


def with_infinite_variance(blocks: Tensor, is_infinite: Tensor) -> Tensor:
    """Return covariance matrices with infinite variances on some diagonals.

    Args:
        blocks: finite [..., E, E].
        is_infinite: which matrices [...].
    """
    identity = torch.eye(blocks.shape[-1], dtype=torch.bool, device=blocks.device)
    return blocks.masked_fill(identity & is_infinite[..., None, None], torch.inf)
