"""Multinomial log likelihood of soft labels, as a function of the linear predictors."""

from jaxtyping import Float
from torch import Tensor

from mixpyro.numerics.linear_predictors import Curvature, Predictors, with_reference


class SoftLabels:
    """Σᵢₖ rᵢₖ log softmax(0, ηᵢ)ₖ; the :class:`~mixpyro.numerics.linear_predictors.RowTerms` of one function.

    Args:
        labels: r [N, K], float64, non-negative; a row that does not sum to one carries a weight.
    """

    def __init__(self, labels: Float[Tensor, "N K"]) -> None:
        self.labels = labels
        self.totals = labels.sum(-1, keepdim=True)

    def values(self, eta: Predictors) -> Float[Tensor, " B"]:
        """Return the sum.

        Args:
            eta: η [N, 1, K − 1].

        Returns:
            [1].
        """
        return (self.labels * with_reference(eta.squeeze(1)).log_softmax(-1)).sum().unsqueeze(0)

    def derivatives(self, eta: Predictors) -> tuple[Predictors, Curvature]:
        """Return r − t π and t (diag π − π π') without the first class, π = softmax(0, η) and t = Σₖ rₖ.

        Args:
            eta: η [N, 1, K − 1].
        """
        weights = with_reference(eta).softmax(-1)[..., 1:]
        totals = self.totals.unsqueeze(1)
        return self.labels[:, 1:].unsqueeze(1) - totals * weights, Curvature(totals * weights, totals.sqrt() * weights)
