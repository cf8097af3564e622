"""Gates whose weights are the same for every object."""

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.conjugate.dirichlet import Counts
from mixpyro.gates.conjugate import ConjugateGate
from mixpyro.numerics import nested
from mixpyro.numerics.blocks import repeated
from mixpyro.numerics.weighted_sums import column_sums
from mixpyro.shapes import Inputs, ObjectIndices, Responsibilities, Value


class CommonWeightsGate(ConjugateGate):
    """Base of gates with one posterior over the weights of all objects, which is updated from counts."""

    @property
    def start(self) -> Value:
        """Where a fit of a program starts by default."""
        raise NotImplementedError

    @property
    def is_new(self) -> bool:
        """Whether the posterior is the prior, or where :meth:`initialise` puts it by default."""
        return super().is_new or nested.equal(self.posterior, self.start)

    def statistics_of(self, x: Inputs, responsibilities: Float[Tensor, "*R N K"]) -> Counts:
        """Return Σᵢ rᵢ [..., K], the expected number of objects in each component, float64.

        Args:
            x: gate inputs [N, D], not read.
            responsibilities: [..., N, K].
        """
        if responsibilities.ndim == 2:
            return Counts(column_sums(responsibilities))
        return Counts(responsibilities.sum(-2, dtype=torch.float64))

    def expected_log_weights(
        self, x: Inputs, *, objects: ObjectIndices | None = None, posterior: Value = None
    ) -> Float[Tensor, "*R 1 K"]:
        """Return E log π [..., 1, K], of a Dirichlet(m) ψ(mₖ) − ψ(Σm); Bishop (2006), eq. 10.66.

        Args:
            x: gate inputs [N, D]; only its dtype is read.
            objects: not read: all objects share the weights.
            posterior: q, with any leading axes of runs; the gate's own by default.
        """
        q = self.posterior_or_own(posterior)
        expected: Tensor = q.expected_log
        return expected.to(x.dtype).unsqueeze(-2)

    def weights(self, x: Inputs, *, objects: ObjectIndices | None = None) -> Responsibilities:
        """Return the posterior mean of the weights, the same row for every object, [N, K].

        Of a Dirichlet(m) it is m / Σm; of a gate with parts see ``posterior.mean``. Weights of a stick that goes on
        beyond K are divided by their sum.

        Args:
            x: gate inputs [N, D]; N and the dtype are read.
            objects: not read: all objects share the weights.
        """
        return repeated(self.posterior.mean.to(x.dtype).unsqueeze(0), len(x))
