"""Dirichlet distributions as values, the conjugate prior of the weights of components."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, distributions

from mixpyro.numerics.digamma import digamma


class Counts(NamedTuple):
    """Sums of responsibilities over objects, float64."""

    counts: Tensor  # Σ r [..., K]


class Dirichlet(NamedTuple):
    """Weights π ~ Dirichlet(concentration) of K components, float64, with any leading axes."""

    concentration: Tensor  # [..., K]

    @property
    def expected_log(self) -> Float[Tensor, "*R K"]:
        """E log π = ψ(m) − ψ(Σm); Bishop (2006), eq. 10.66."""
        m = self.concentration
        return digamma(m).sub_(digamma(m.sum(-1, keepdim=True)))

    @property
    def mean(self) -> Float[Tensor, "*R K"]:
        """E π = m / Σm."""
        return self.concentration / self.concentration.sum(-1, keepdim=True)

    @property
    def n_parameters(self) -> int:
        """Number of free weights, K − 1."""
        return self.concentration.shape[-1] - 1

    def updated(self, seen: Counts) -> "Dirichlet":
        """Return the posterior of this prior, Dirichlet(α + Σ r); Bishop (2006), eq. 10.58.

        Args:
            seen: counts [..., K], non-negative.
        """
        return Dirichlet(self.concentration + seen.counts)

    def statistics_beyond(self, prior: "Dirichlet") -> Counts:
        """Return the counts that lead from a prior to this posterior.

        Args:
            prior: concentration [K] or [..., K].
        """
        return Counts(self.concentration - prior.concentration)

    def kl(self, prior: "Dirichlet") -> Float[Tensor, "*R"]:
        """Return KL(self ‖ prior) in nats, without the axis of components.

        Args:
            prior: concentration [K] or [..., K].
        """
        # Unchecked: on a GPU the checks would wait.
        q, p = (distributions.Dirichlet(one.concentration, validate_args=False) for one in (self, prior))
        return distributions.kl_divergence(q, p)
