"""Regressions that have some coefficients in common, as one regression on their columns side by side."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.conjugate.normal_gamma import LinearStatistics, NormalGamma
from mixpyro.numerics.cholesky import cholesky


class StackedNormalGamma(NormalGamma):
    """A :class:`NormalGamma` of one component, whose columns are those of K regressions: own ones, then common ones.

    Rows of component k are zero in the own columns of the others, so own coefficients of two components are independent
    given the common ones: their entry of the precision is zero, in a prior that has none and after any update.
    """

    def updated(self, seen: LinearStatistics) -> "StackedNormalGamma":
        """Return the posterior of this prior.

        Args:
            seen: of the stacked columns, with any leading axes.
        """
        return StackedNormalGamma(*super().updated(seen))


class Stacking:
    """Which of the E columns of K regressions are whose in the Q = K Eₒ + Eₛ stacked ones.

    Args:
        own: numbers of the columns with coefficients of each component, at least one.
        common: numbers of the columns with coefficients of all.
        n_components: K.
    """

    def __init__(self, own: Sequence[int], common: Sequence[int], n_components: int) -> None:
        self.own, self.common, self.n_components = list(own), list(common), n_components
        order = [*self.own, *self.common]
        self._place = sorted(range(len(order)), key=order.__getitem__)
        self._n_own = n_components * len(self.own)

    def joined(self, own: Float[Tensor, "*S K P Eo"], common: Float[Tensor, "*S 1 P Es"]) -> Float[Tensor, "*S K P E"]:
        """Return the coefficients of every component in the order of the columns.

        Args:
            own: of each component.
            common: of all.
        """
        both = torch.cat([own, common.expand(*own.shape[:-1], -1)], dim=-1)
        return both[..., self._place]

    def stacked(self, each: NormalGamma) -> StackedNormalGamma:
        """Return the joint distribution of all coefficients that has given distributions of each component's.

        Own coefficients of two components are independent given the common ones, whose distribution is that of the
        first component.

        Args:
            each: of K components with one noise for all, equal in the common columns.
        """
        of_own, crossed, _ = self._blocks(each.precision)
        spread = self._spread(of_own, crossed)
        common = self.precision_of_common(each)
        precision = self._assembled(of_own, crossed, common + spread.sum(-3))
        mean = self._side_by_side(each.mean[..., self.own], each.mean[..., :1, :, self.common])
        return StackedNormalGamma(mean, precision.unsqueeze(-3), each.shape, each.rate)

    def each(self, stacked: StackedNormalGamma) -> NormalGamma:
        """Return the distribution of each component's coefficients, inverse of :meth:`stacked`.

        Args:
            stacked: of all coefficients, with any leading axes.
        """
        own, common = stacked.mean.split([self._n_own, len(self.common)], dim=-1)
        own = own.squeeze(-3).unflatten(-1, (self.n_components, -1)).movedim(-2, -3)
        precision = stacked.precision.squeeze(-3)
        if precision.requires_grad:
            # Derivatives in all of its entries, those that are zero too.
            return NormalGamma(self.joined(own, common), self._marginals(precision), stacked.shape, stacked.rate)
        of_own, crossed, of_common = self._parted(precision)
        spread = self._spread(of_own, crossed)
        # Marginal of the common coefficients, and what each component's own ones know of them.
        both = (of_common - spread.sum(-3)).unsqueeze(-3) + spread
        rows = [torch.cat([of_own, crossed], dim=-1), torch.cat([crossed.mT, both], dim=-1)]
        ordered = torch.cat(rows, dim=-2)[..., self._place, :][..., self._place]
        return NormalGamma(self.joined(own, common), ordered, stacked.shape, stacked.rate)

    def _marginals(self, precision: Tensor) -> Tensor:
        """Return the precision of each component's coefficients [..., K, E, E] from any stacked one [..., Q, Q]."""
        covariance, n_own = torch.linalg.inv(precision), len(self.own)
        common = list(range(self._n_own, precision.shape[-1]))
        found = []
        for k in range(self.n_components):
            columns = [*range(k * n_own, (k + 1) * n_own), *common]
            ordered = [columns[place] for place in self._place]
            found.append(torch.linalg.inv(covariance[..., ordered, :][..., ordered]))
        return torch.stack(found, dim=-3)

    def precision_of_common(self, each: NormalGamma) -> Tensor:
        """Return the precision of the common coefficients by themselves, over τ [..., Es, Es].

        Args:
            each: as :meth:`each` returns them.
        """
        of_own, crossed, both = self._blocks(each.precision[..., :1, :, :])
        return (both - self._spread(of_own, crossed)).squeeze(-3)

    def own_given_common(self, each: NormalGamma) -> tuple[Tensor, Tensor]:
        """Return the precision of own coefficients over τ [..., K, Eo, Eo], and their slopes on the common ones.

        The mean of own coefficients given common ones w is m − slopes (w − their mean), slopes [..., K, Eo, Es].

        Args:
            each: as :meth:`each` returns them.
        """
        of_own, crossed, _ = self._blocks(each.precision)
        return of_own, torch.cholesky_solve(crossed, cholesky(of_own))

    def statistics(self, seen: LinearStatistics) -> LinearStatistics:
        """Return the sums of the stacked columns, with an axis of components of length one.

        Args:
            seen: sums of the K components.
        """
        of_own, crossed, both = self._blocks(seen.uu)
        uu = self._assembled(of_own, crossed, both.sum(-3)).unsqueeze(-3)
        uy = seen.uy.mT
        stacked = self._side_by_side(uy[..., self.own], uy[..., self.common].sum(-3, keepdim=True))
        r, yy = seen.r.sum(-1, keepdim=True), seen.yy.sum(-2, keepdim=True)
        return LinearStatistics(r, uu, stacked.mT, yy)

    def divided(self, seen: LinearStatistics) -> LinearStatistics:
        """Return sums of K components that have given sums of the stacked columns; what is common divided evenly.

        Args:
            seen: as :meth:`statistics` returns them.
        """
        k = self.n_components
        of_own, crossed, of_common = self._parted(seen.uu.squeeze(-3))
        both = (of_common / k).unsqueeze(-3).expand(*of_own.shape[:-2], -1, -1)
        rows = [torch.cat([of_own, crossed], dim=-1), torch.cat([crossed.mT, both], dim=-1)]
        uu = torch.cat(rows, dim=-2)[..., self._place, :][..., self._place]
        own, common = seen.uy.mT.split([self._n_own, len(self.common)], dim=-1)
        own = own.squeeze(-3).unflatten(-1, (k, -1)).movedim(-2, -3)
        uy = self.joined(own, common / k).mT
        r, yy = seen.r / k, seen.yy / k
        return LinearStatistics(r.expand(*r.shape[:-1], k), uu, uy, yy.expand(*yy.shape[:-2], k, -1))

    def _blocks(self, matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the blocks of own, own and common, and common columns of matrices [..., K, E, E]."""
        of_own, of_common = matrices[..., self.own, :], matrices[..., self.common, :]
        return of_own[..., self.own], of_own[..., self.common], of_common[..., self.common]

    def _parted(self, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the blocks [..., K, Eo, Eo], [..., K, Eo, Es] and [..., Es, Es] of a stacked matrix [..., Q, Q]."""
        n, shape = self._n_own, (self.n_components, len(self.own))
        own = matrix[..., :n, :n].unflatten(-1, shape).unflatten(-3, shape)
        of_own = own.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)
        return of_own, matrix[..., :n, n:].unflatten(-2, shape), matrix[..., n:, n:]

    def _assembled(self, of_own: Tensor, crossed: Tensor, of_common: Tensor) -> Tensor:
        """Return the stacked matrix [..., Q, Q] of its blocks; inverse of :meth:`_parted`."""
        leading, k, n_own = of_own.shape[:-3], self.n_components, len(self.own)
        own = of_own.movedim(-3, -1).diag_embed(dim1=-4, dim2=-2)  # [..., K, Eo, K, Eo]
        side = crossed.reshape(*leading, k * n_own, len(self.common))
        rows = [
            torch.cat([own.reshape(*leading, k * n_own, -1), side], dim=-1),
            torch.cat([side.mT, of_common], dim=-1),
        ]
        return torch.cat(rows, dim=-2)

    def _side_by_side(self, own: Tensor, common: Tensor) -> Tensor:
        """Return [..., 1, P, Q] from own [..., K, P, Eo] and common [..., 1, P, Es]."""
        return torch.cat([own.movedim(-3, -2).flatten(-2).unsqueeze(-3), common], dim=-1)

    @staticmethod
    def _spread(of_own: Tensor, crossed: Tensor) -> Tensor:
        """Return Λₛₒ Λₒₒ⁻¹ Λₒₛ of every component [..., K, Es, Es]."""
        return crossed.mT @ torch.cholesky_solve(crossed, cholesky(of_own))
