"""What experts with estimated parameters have in common."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from pyro.nn import pyro_method
from torch import Tensor

from mixpyro.experts.base import Experts, weighted_sum
from mixpyro.fitted_part import State
from mixpyro.part import EstimatedPart
from mixpyro.shapes import Inputs, Outputs, Responsibilities, Scalar, Value


class EstimatedExperts(EstimatedPart, Experts):
    """Experts whose parameters are estimated, from the rows themselves.

    To write, three members: :meth:`predictive`, :meth:`model` and :meth:`likelihood`. Pyro's SVI estimates the
    ``nn.Parameter``s, or a ``maximise`` of the subclass's own.

    Example:
        >>> from pyro.distributions import Exponential
        >>> from pyro.ops.indexing import Vindex
        >>> from mixpyro.numerics.design_matrix import with_intercept
        >>> from mixpyro.pyro_internals.parameter_store import refuse_shared_parameters
        >>> class ExponentialExperts(EstimatedExperts):
        ...     def __init__(self, n_components, n_features, *, name="experts"):
        ...         super().__init__(n_components, n_features, 1, name=name)
        ...         self.slopes = torch.nn.Parameter(torch.zeros(n_components, n_features + 1).double())
        ...     def predictive(self, x):
        ...         log_rates = with_intercept(x) @ self.slopes.to(x.dtype).mT
        ...         return Exponential(log_rates.exp().unsqueeze(-1)).to_event(1)
        ...     def model(self, x):
        ...         refuse_shared_parameters(self)
        ...         return self.slopes.to(x.dtype)
        ...     def likelihood(self, x, parameters, assignment):
        ...         log_rate = (with_intercept(x) * Vindex(parameters)[..., assignment, :]).sum(-1)
        ...         return Exponential(log_rate.exp().unsqueeze(-1)).to_event(1)
        >>> ExponentialExperts(2, 1).expected_log_likelihood(torch.zeros(1, 1), torch.ones(1)).tolist()
        [[-1.0, -1.0]]
    """

    unread: ClassVar[Mapping[str, str]] = {"expected_log_likelihood": "log_likelihood"}

    def columns(self, x: Inputs, y: Outputs) -> tuple[Tensor, ...]:
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
        """Return log p(yᵢ | xᵢ, k) in nats, run by run.

        Args:
            columns: of N rows, as :meth:`columns` returns them.
            state: of R runs; the experts' own without an axis of runs by default, with its gradient.
        """
        rows = [part.mT for part in columns]
        if state is None:
            return self.log_likelihood(*rows).mT
        return torch.stack(self.in_each_run(state, lambda _: self.log_likelihood(*rows).mT))

    @pyro_method
    def guide(self, x: Inputs) -> Value:
        """Return the parameters as :meth:`model` does: there is nothing to sample.

        Args:
            x: inputs [N, D].
        """
        return self.model(x)
