"""The log likelihood of class probabilities as labels, as a function of the classes' logits."""

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.numerics.curvature import Curvature, Predictors


def with_reference(predictors: Tensor) -> Tensor:
    """Return logits of a softmax whose first class is the reference: zero, then the predictors.

    Args:
        predictors: of the other classes [..., C].

    Returns:
        [..., 1 + C].
    """
    return torch.cat([predictors.new_zeros(*predictors.shape[:-1], 1), predictors], dim=-1)


class SoftLabels:
    """Σᵢₖ rᵢₖ log softmax(0, ηᵢ)ₖ; the :class:`~mixpyro.numerics.linear_predictors.RowTerms` of B functions.

    Args:
        labels: r [N, B, K], or [N, K] of one function, float64, non-negative; a row that does not sum to one carries a
            weight.
    """

    def __init__(self, labels: Float[Tensor, "N *B K"]) -> None:
        self.labels = labels if labels.ndim == 3 else labels.unsqueeze(1)
        self.totals = self.labels.sum(-1, keepdim=True)

    def values(self, eta: Predictors) -> Float[Tensor, " B"]:
        """Return the sum.

        Args:
            eta: η [N, B, K − 1].

        Returns:
            [B].
        """
        return (self.labels * with_reference(eta).log_softmax(-1)).sum((0, -1))

    def derivatives(self, eta: Predictors) -> tuple[Predictors, Curvature]:
        """Return r − t π and t (diag π − π π') without the first class, π = softmax(0, η) and t = Σₖ rₖ.

        Args:
            eta: η [N, B, K − 1].
        """
        return self.derivatives_at(with_reference(eta).softmax(-1))

    def of_rows(self, rows: slice) -> "SoftLabels":
        """Return the terms of some rows; the same object for all rows.

        Args:
            rows: which.
        """
        return self if rows == slice(0, len(self.labels)) else SoftLabels(self.labels[rows])

    def derivatives_at(self, weights: Float[Tensor, "N B K"]) -> tuple[Predictors, Curvature]:
        """Return the same, given the weights.

        Args:
            weights: π.
        """
        weights, totals = weights[..., 1:], self.totals
        return self.labels[..., 1:] - totals * weights, Curvature(totals * weights, totals.sqrt() * weights)
