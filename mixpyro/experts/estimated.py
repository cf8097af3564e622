"""What experts with estimated parameters have in common."""

import torch
from jaxtyping import Float
from pyro.nn import pyro_method
from torch import Tensor

from mixpyro.experts.base import Experts, weighted_sum
from mixpyro.part import EstimatedPart, State
from mixpyro.shapes import Inputs, Outputs, Responsibilities, Scalar, Value


class EstimatedExperts(EstimatedPart, Experts):
    """Experts whose parameters are estimated, from the rows themselves.

    To write, three members: :meth:`predictive`, :meth:`model` and :meth:`likelihood`.
    """

    def columns(self, x: Inputs, y: Outputs) -> tuple[Tensor, Tensor]:
        """Return x [D, N] and y [P, N], rows along the last axis.

        Args:
            x: inputs [N, D].
            y: outputs [N, P].
        """
        return x.mT, y.mT

    def log_likelihood(self, x: Inputs, y: Outputs) -> Responsibilities:
        """Return log p(yᵢ | xᵢ, k) at the estimates [N, K] in nats, for rows that have been checked.

        Args:
            x: inputs [N, D].
            y: outputs [N, P].
        """
        log_prob: Tensor = self.predictive(x).log_prob(y.unsqueeze(1))
        return log_prob

    def partial_bound(self, x: Inputs, y: Outputs, responsibilities: Responsibilities) -> Scalar:  # type: ignore[override]
        """Return the experts' share of the bound in nats, for rows that have been checked.

        A gradient M-step evaluates it many times on the same rows.

        Args:
            x: inputs [N, D].
            y: outputs [N, P].
            responsibilities: [N, K].
        """
        return weighted_sum(responsibilities, self.log_likelihood(x, y)) - self.kl_divergence()

    def log_likelihoods(self, columns: Value, state: State | None = None) -> Float[Tensor, "*R K N"]:
        """Return log p(yᵢ | xᵢ, k) in nats, run by run; arguments as :meth:`Experts.log_likelihoods`."""
        x, y = (part.mT for part in columns)
        if state is None:
            return self.log_likelihood(x, y).mT
        return torch.stack(self.in_each_run(state, lambda _: self.log_likelihood(x, y).mT))

    @pyro_method
    def guide(self, x: Inputs) -> Value:
        """Return the parameters as :meth:`model` does: there is nothing to sample.

        Args:
            x: inputs [N, D].
        """
        return self.model(x)
