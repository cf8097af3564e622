"""Gaussians whose columns are uncorrelated within a component: what diagonal and spherical precisions share."""

import torch
from torch import Tensor

from mixpyro.conjugate.normal_wishart import BLOCK_ROWS, GaussianStatistics, NormalWishart
from mixpyro.shapes import Responsibilities

# How often a squared distance may be lost among the squares that it is the difference of; less where digits are few.
MOST_LOST = {torch.float64: 2.0**12, torch.float32: 2.0**6}


class Uncorrelated(NormalWishart):
    """A NormalWishart of which the squared distances are a sum over columns, τ (y − m)²."""

    @staticmethod
    def squares(columns: Tensor) -> Tensor:
        """The squares of columns of y [P, N] that a component's precisions speak of, one each [P, N] or [1, N]."""
        raise NotImplementedError

    @property
    def expected_precisions(self) -> Tensor:
        """E τ [K, P], or [K, 1] where all columns share it."""
        raise NotImplementedError

    def squared_distances(self, columns: Tensor) -> Responsibilities:
        """Σₚ τ (y − m)², expanded to τ y² − 2 τ m y + τ m² where nothing is lost: one small matrix product.

        Rows that a component explains are near its mean, so what is lost depends on how many spreads that is from the
        origin, and not on the rows.
        """
        precisions = self.expected_precisions
        constants = (precisions * self.mean.square()).expand_as(self.mean)
        # On a GPU to ask would be to wait, and the squares are cheap.
        expanded = columns.device.type == "cpu" and bool((constants <= MOST_LOST.get(columns.dtype, 0.0)).all())
        if not expanded:
            return self._sums_of_squares(columns)
        maps = torch.cat([precisions, -2.0 * precisions * self.mean], dim=1).to(columns.dtype)
        constant = constants.sum(-1, keepdim=True).to(columns.dtype)
        blocks = columns.split(BLOCK_ROWS, dim=1)
        found = [torch.addmm(constant, maps, torch.cat([self.squares(block), block])) for block in blocks]
        return torch.cat(found, dim=1).clamp_min_(0.0).mT

    def _sums_of_squares(self, columns: Tensor) -> Responsibilities:
        root = self.expected_precisions.sqrt()
        centre = (-root * self.mean).unsqueeze(-1).to(columns.dtype)
        stretch = root.unsqueeze(-1).to(columns.dtype)
        blocks = columns.split(BLOCK_ROWS, dim=1)
        return torch.cat([torch.addcmul(centre, block, stretch).square_().sum(1) for block in blocks], dim=1).mT

    @classmethod
    def statistics(cls, r: Responsibilities, columns: Tensor) -> GaussianStatistics:
        """Σ r, Σ r y and Σ r :meth:`squares` of columns of y [P, N], of a block of rows in one matrix product."""
        n_outputs = len(columns)
        sums = []
        for w, block in zip(r.split(BLOCK_ROWS), columns.split(BLOCK_ROWS, dim=1), strict=True):
            exact = block.double()
            seen = torch.cat([torch.ones_like(exact[:1]), exact, cls.squares(exact)])
            sums.append(w.double().mT @ seen.mT)
        total = torch.stack(sums).sum(0)
        return GaussianStatistics(r=total[:, 0], y=total[:, 1 : n_outputs + 1], yy=total[:, n_outputs + 1 :])
