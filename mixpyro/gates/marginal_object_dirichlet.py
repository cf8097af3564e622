"""The per-object gate with its weights integrated out."""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import Categorical
from torch import Tensor

from mixpyro import arguments
from mixpyro.conjugate.dirichlet import Counts
from mixpyro.distributed import sums
from mixpyro.gates.object_dirichlet import ObjectDirichletGate
from mixpyro.numerics.weighted_sums import column_sums
from mixpyro.pyro_internals.expected_weights import BoundTerms
from mixpyro.shapes import Inputs, ObjectIndices, Responsibilities, Value


class MarginalWeights(NamedTuple):
    """What is known of the weights: the population's, and of each object given its assignment."""

    mean: Tensor  # μ [..., K]
    concentration: Tensor  # γμ + rᵢ [..., N, K]


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
    posterior_buffers: ClassVar[Mapping[str, str]] = {"mean": "mean"}

    @property
    def is_estimated(self) -> bool:
        """Whether μ is learnt."""
        return self.learn_mean

    def _register(self, mean: Tensor, no_objects: Tensor) -> None:
        self._first_mean = mean.clone()
        self.register_posterior(MarginalWeights(mean, no_objects), like=mean)

    def forget(self) -> None:
        """Forget all objects, and what was learnt of μ."""
        super().forget()
        self.mean = self._first_mean.to(self.mean)

    def expected_log_weights(
        self,
        x: Inputs,
        *,
        objects: ObjectIndices | None = None,
        posterior: MarginalWeights | None = None,
    ) -> Float[Tensor, "*R #N K"]:
        """Return log p(zᵢ = k) = log μₖ [..., 1, K], the same for fitted and new objects.

        Args:
            x: gate inputs [N, D]; only its dtype is read.
            objects: not read.
            posterior: with any leading axes of runs; the gate's own by default.
        """
        mean = self.posterior_or_own(posterior).mean.double()
        # A mean of less precision than x sums to one in its own only.
        mean = (mean / mean.sum(-1, keepdim=True)).to(x.dtype)
        # A component that has lost all objects has μₖ = 0: keep its logarithm finite, so that 0 log 0 is 0.
        return mean.clamp_min(torch.finfo(x.dtype).tiny).log().unsqueeze(-2)

    def updated(self, statistics: Counts, before: MarginalWeights) -> MarginalWeights:
        """Return μ = Σᵢ rᵢ / N if it is learnt, and γμ + rᵢ of every object.

        Args:
            statistics: the responsibilities [..., N, K].
            before: whose μ stays if it is not learnt.
        """
        r, mean = statistics.counts, before.mean
        if self.learn_mean:
            slices = sums.slices_of(r.shape[-2])
            counts = sums.total([r[..., objects, :].sum(-2, dtype=torch.float64) for objects in slices])
            mean = (counts / counts.sum(-1, keepdim=True)).to(mean)
        return MarginalWeights(mean, (self.concentration * mean).to(r.dtype).unsqueeze(-2) + r)

    @torch.no_grad()
    def update(self, statistics: Counts, step_size: float = 1.0) -> None:
        """Set the objects' posteriors; with ``learn_mean``, μ goes part of the way to Σᵢ rᵢ / N first.

        Args:
            statistics: the responsibilities [N, K], as :meth:`statistics` returns them.
            step_size: in (0, 1].

        Raises:
            ValueError: if a shape does not fit, or all responsibilities are zero where μ is to be learnt.
        """
        r = arguments.tensor("statistics.counts", statistics.counts, ("N", self.n_components))
        self._learn_mean(r, arguments.step_size(step_size))
        super().update(statistics, step_size)

    @torch.no_grad()
    def update_objects(
        self, x: Inputs, responsibilities: Responsibilities, *, objects: Tensor, n_objects: int, step_size: float
    ) -> None:
        """Go part of the way with μ to where some of N objects have it, and all of it with their posteriors.

        Args:
            x: gate inputs [B, D].
            responsibilities: [B, K].
            objects: which of the N objects the rows are [B].
            n_objects: N.
            step_size: in (0, 1].
        """
        self._learn_mean(self.statistics(x, responsibilities).counts, step_size)
        super().update_objects(x, responsibilities, objects=objects, n_objects=n_objects, step_size=step_size)

    def _learn_mean(self, responsibilities: Responsibilities, step_size: float) -> None:
        """Move μ part of the way to the mean of the responsibilities, if it is learnt."""
        if not self.learn_mean:
            return
        counts = column_sums(responsibilities)
        if arguments.checks_values() and not float(counts.sum()) > 0.0:
            raise ValueError("`statistics.counts` must have a positive sum; got only zeros.")
        self.mean = torch.lerp(self.mean, (counts / counts.sum()).to(self.mean), step_size)

    def kl(self, posterior: Value) -> Tensor:
        """Return zero, float64: no latent variable is left in the bound.

        Args:
            posterior: with any leading axes of runs.
        """
        return torch.zeros(posterior.mean.shape[:-1], dtype=torch.float64, device=posterior.mean.device)

    def bound_terms(self, x: Inputs, *, objects: Tensor, n_objects: int) -> BoundTerms:
        """Return log μ [1, K], and no KL.

        Args:
            x: gate inputs [B, D].
            objects: not read.
            n_objects: not read.
        """
        return BoundTerms(self.expected_log_weights(x), self.kl_divergence())

    def evidence(self, x: Inputs, responsibilities: Responsibilities, *, scale: float) -> None:
        """Return None: the weights are integrated out.

        Args:
            x: gate inputs [B, D].
            responsibilities: [B, K].
            scale: not read.
        """

    def assignment_prior(self, x: Inputs, *, plate: pyro.plate | None) -> Categorical:
        """Return Categorical(μ): there is no site for the weights, their posterior is known once z is.

        Args:
            x: gate inputs [N, D]; only its dtype is read.
            plate: not entered.
        """
        if self.learn_mean:
            self._refuse_compiled()
        return Categorical(probs=self.mean.to(x.dtype))

    def weights_guide(self, x: Inputs, *, plate: pyro.plate | None, objects: ObjectIndices | None) -> None:
        """Sample nothing: the weights are integrated out.

        Args:
            x: gate inputs [N, D].
            plate: not entered.
            objects: not read.
        """
