"""Gates by logits: the weights are the softmax of a function of x with estimated parameters."""

from typing import ClassVar

import pyro
from pyro.distributions import Categorical
from torch import Tensor

from mixpyro.gates.base import Gate, categorical_of_rows
from mixpyro.numerics.least_information import flattest_direction
from mixpyro.numerics.linear_predictors import LinearPredictors
from mixpyro.numerics.precision import at_least
from mixpyro.part import EstimatedPart
from mixpyro.shapes import Inputs, ObjectIndices, Responsibilities, Scalar

# Share of all objects below which a component is empty.
SMALLEST_SHARE = 1e-9


class LogitGate(EstimatedPart, Gate):
    """zᵢ ~ Categorical(softmax(f(xᵢ))): a subclass writes one method, :meth:`logits`.

    Its ``nn.Parameter``s are estimated by Pyro's SVI on Σᵢₖ rᵢₖ log πₖ(xᵢ), or by a ``maximise`` of its own. A free
    column of logits for every component would have a redundant one, which information criteria would count and standard
    errors would find infinite: keep the first at zero.

    Example:
        >>> import torch
        >>> from mixpyro.numerics.soft_labels import with_reference
        >>> class TemperatureGate(LogitGate):
        ...     def __init__(self, n_components, n_features, *, temperature, name="gate"):
        ...         super().__init__(n_components, name=name)
        ...         self.n_features, self.temperature = n_features, temperature
        ...         self.slopes = torch.nn.Parameter(torch.zeros(n_features, n_components - 1).double())
        ...     def logits(self, x):
        ...         return with_reference(x @ self.slopes.to(x.dtype)) / self.temperature
        >>> TemperatureGate(2, 1, temperature=3.0).weights(torch.zeros(1, 1)).tolist()
        [[0.5, 0.5]]
    """

    # Name of the factor that scores a prior on the parameters, without the prefix.
    log_prior_site: ClassVar[str] = "log_prior"

    def logits(self, x: Inputs) -> Responsibilities:
        """Return the logits of the weights [N, K], with their gradient.

        Args:
            x: gate inputs [N, D].
        """
        raise NotImplementedError

    def expected_log_weights(self, x: Inputs, *, objects: ObjectIndices | None = None) -> Responsibilities:
        """Return log softmax of the logits [N, K] in x's dtype, with its gradient.

        Args:
            x: gate inputs [N, D].
            objects: not read: a row's weights depend on x alone.
        """
        return at_least(self.logits(x), x.dtype).log_softmax(-1).to(x.dtype)

    def weights(self, x: Inputs, *, objects: ObjectIndices | None = None) -> Responsibilities:
        """Return softmax of the logits [N, K] in x's dtype, with its gradient.

        Args:
            x: gate inputs [N, D].
            objects: not read: a row's weights depend on x alone.
        """
        return at_least(self.logits(x), x.dtype).softmax(-1).to(x.dtype)

    def predictive_assignment(self, x: Inputs) -> Categorical:
        """Return Categorical(softmax f(x)), by its logarithms: weights of far rows may be too small for a number.

        Args:
            x: gate inputs [N, D].
        """
        return categorical_of_rows(self.expected_log_weights(x))

    def partial_bound(self, x: Inputs, responsibilities: Responsibilities) -> Scalar:  # type: ignore[override]
        """Return Σ r log π, plus the log density of a prior on the parameters, in nats.

        Args:
            x: gate inputs [N, D].
            responsibilities: [N, K].
        """
        fit = (responsibilities * self.expected_log_weights(x)).sum()
        # To subtract a zero in float64 costs, with its gradient, as much as a layer of a small network.
        return fit if self.prior_scale is None else fit - self.kl_divergence()

    def assignment_prior(self, x: Inputs, *, plate: pyro.plate | None) -> Categorical:
        """Return Categorical(softmax f(x)); a prior on the parameters is scored as ``<name>.log_prior``.

        Args:
            x: gate inputs [N, D].
            plate: over the objects, not entered.
        """
        if self.prior_scale is not None:
            pyro.factor(self.site(self.log_prior_site), -self.kl_divergence().to(x.dtype))
        return categorical_of_rows(self.logits(x).to(x.dtype))


def separated_components(
    functions: LinearPredictors, coefficients: Tensor, responsibilities: Responsibilities
) -> list[str]:
    """Return in words whether a component is empty, or the likelihood of a softmax has no maximum.

    Args:
        functions: Σᵢₖ rᵢₖ log softmax(0, b uᵢ)ₖ as a function of b.
        coefficients: b [1, Q].
        responsibilities: r [N, K].
    """
    counts = responsibilities.sum(0)
    empty = [k for k in range(len(counts)) if counts[k] <= SMALLEST_SHARE * counts.sum()]
    if empty:
        return [f"component {k} has lost all objects" for k in empty]
    # The curvature of a row in a component is at most ¼.
    totals = responsibilities.sum(-1, keepdim=True)
    flattest = flattest_direction(functions, coefficients, curvature=0.25, weights=totals)
    if not flattest.is_unbounded:
        return []
    return [f"the gate separates its components ({flattest.described()}); set `prior_scale`"]
