"""The per-object gate with its weights integrated out."""

import pyro
import torch
from pyro.distributions import Categorical
from torch import Tensor

from mixpyro import arguments
from mixpyro.gates.object_dirichlet import ObjectDirichletGate, ObjectDirichletStatistics
from mixpyro.numerics.weighted_sums import column_sums
from mixpyro.pyro_internals.expected_weights import BoundTerms
from mixpyro.shapes import Inputs, ObjectIndices, Responsibilities, Scalar, Weights


class MarginalObjectDirichletGate(ObjectDirichletGate):
    """The model of :class:`ObjectDirichletGate`, treated exactly: each πᵢ is integrated out of the E-step.

    πᵢ ~ Dirichlet(γμ), zᵢ ~ Categorical(πᵢ) has p(zᵢ = k) = μₖ, whatever γ: a Dirichlet prior with one draw from it
    says no more than its mean. So log μ takes the place of E_q[log πᵢ], the gate adds no KL, and q(πᵢ | zᵢ = k) =
    Dirichlet(γμ + eₖ) is the exact conditional, with mean (γμ + rᵢ) / (γ + 1). See :class:`ObjectDirichletGate` for how
    far the mean field is from that.

    Arguments and attributes are those of :class:`ObjectDirichletGate`. With ``learn_mean`` the update sets μ to its
    optimum, the mean of the responsibilities, in closed form: the maximum-likelihood weights of a mixture.

    Example:
        >>> gate = MarginalObjectDirichletGate(2, mean=[3.0, 1.0])
        >>> gate.expected_log_weights(torch.zeros(5, 0)).exp().tolist()
        [[0.75, 0.25]]
    """

    takes_row_weights = True
    weights_site = None

    def _register_mean(self, mean: Tensor) -> None:
        self.register_buffer("mean", mean)

    def expected_log_weights(self, x: Inputs, *, objects: ObjectIndices | None = None) -> Weights:
        """log p(zᵢ = k) = log μₖ [1, K], the same for seen and unseen rows."""
        # A component that has lost all objects has μₖ = 0: keep its logarithm finite, so that 0 log 0 is 0.
        mean = self.mean.to(x.dtype)
        return mean.clamp_min(torch.finfo(x.dtype).tiny).log().unsqueeze(0)

    @torch.no_grad()
    def update(self, statistics: ObjectDirichletStatistics, step_size: float = 1.0) -> None:
        """Keep the objects' posteriors; with ``learn_mean``, μ goes ``step_size`` of the way to Σᵢ rᵢ / N first.

        Raises:
            ValueError: if all responsibilities are zero, where μ is to be learnt.
        """
        if self.learn_mean:
            r = arguments.tensor("statistics.responsibilities", statistics.responsibilities, ("N", self.n_components))
            self._learn_mean(r, step_size)
        super().update(statistics, step_size)

    @torch.no_grad()
    def update_objects(
        self, x: Inputs, responsibilities: Responsibilities, *, objects: Tensor, n_objects: int, step_size: float
    ) -> None:
        """As :meth:`update`: μ goes ``step_size`` of the way to where these objects have it, their posteriors all."""
        if self.learn_mean:
            self._learn_mean(self.statistics(x, responsibilities).responsibilities, step_size)
        super().update_objects(x, responsibilities, objects=objects, n_objects=n_objects, step_size=step_size)

    def _learn_mean(self, responsibilities: Responsibilities, step_size: float) -> None:
        counts = column_sums(responsibilities)
        if arguments.checks_values() and not float(counts.sum()) > 0.0:
            raise ValueError("`statistics.responsibilities` must have a positive sum; got only zeros.")
        size = arguments.step_size(step_size)
        self.mean = torch.lerp(self.mean, (counts / counts.sum()).to(self.mean), size)

    def bound_terms(self, x: Inputs, *, objects: Tensor, n_objects: int) -> BoundTerms:
        """Log μ [1, K], and no KL."""
        return BoundTerms(self.expected_log_weights(x), self.kl_divergence())

    def evidence(self, x: Inputs, responsibilities: Responsibilities, *, scale: float) -> None:
        """None: the weights are integrated out."""

    def kl_divergence(self) -> Scalar:
        """Zero: no latent variable is left in the bound."""
        return torch.zeros((), dtype=torch.float64, device=self.mean.device)

    def assignment_prior(self, x: Inputs, *, plate: pyro.plate) -> Categorical:
        """Categorical(μ): the Pyro model has no site for the weights, their posterior is known once z is."""
        return Categorical(probs=self.mean.to(x.dtype))

    def weights_guide(self, x: Inputs, *, plate: pyro.plate) -> None:
        """Nothing: the weights are integrated out."""
