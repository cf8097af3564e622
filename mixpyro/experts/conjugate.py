"""What experts with an analytic posterior have in common."""

import torch
from jaxtyping import Float
from pyro.nn import pyro_method
from torch import Tensor

from mixpyro import arguments
from mixpyro.conjugate_part import ConjugatePart
from mixpyro.experts.base import Experts
from mixpyro.fitted_part import State
from mixpyro.pyro_internals.compiled import refuse_compiled
from mixpyro.pyro_internals.names import module_name
from mixpyro.shapes import Inputs, Responsibilities, Targets, Value


class ConjugateExperts(ConjugatePart, Experts):
    """Experts with an analytic posterior over their parameters, updated from sums over the rows.

    To write, seven members: ``prior``, :meth:`columns`, :meth:`log_likelihood`, :meth:`statistics_of`,
    :meth:`predictive`, :meth:`sample` and :meth:`likelihood`.
    """

    @property
    def prior_kinds(self) -> list[tuple[float, ...]]:
        """One label: all components have the same prior."""
        return [()] * int(self.n_components)

    @property
    def may_begin_anew(self) -> bool:
        """Whether a component may take rows of a stream: where all it has is a posterior of its own."""
        return not self.is_estimated and bool(self.component_tensors)

    def log_likelihood(self, columns: Float[Tensor, "F N"], posterior: Value) -> Float[Tensor, "*R K N"]:
        """Return E_q[log p(yᵢ | xᵢ, k)] [..., K, N] in nats, in the columns' dtype.

        Args:
            columns: of N rows, as :meth:`columns` returns them.
            posterior: q, with any leading axes of runs.
        """
        raise NotImplementedError

    def statistics_of(self, columns: Float[Tensor, "F N"], responsibilities: Float[Tensor, "*R K N"]) -> Value:
        """Return the sums over rows that the update needs, a NamedTuple of float64 tensors [..., K, …].

        Args:
            columns: of N rows, as :meth:`columns` returns them.
            responsibilities: [..., K, N].
        """
        raise NotImplementedError

    def sample(self, posterior: Value, dtype: torch.dtype) -> Value:
        """Sample the parameters at their Pyro sites from a prior or posterior, and return them.

        Args:
            posterior: a value such as ``prior`` and ``posterior``, without leading axes of runs.
            dtype: of the draws.
        """
        raise NotImplementedError

    def log_likelihoods(self, columns: Value, state: State | None = None) -> Float[Tensor, "*R K N"]:
        """Return E_q[log p(yᵢ | xᵢ, k)] in nats for all runs at once.

        Args:
            columns: of N rows, as :meth:`columns` returns them.
            state: of R runs; the experts' own without an axis of runs by default, with its gradient.
        """
        return self.log_likelihood(columns, self.posterior if state is None else state.posterior)

    def sums(self, columns: Value, responsibilities: Float[Tensor, "*R K N"], state: State | None = None) -> Value:
        """Return the statistics of R runs.

        Args:
            columns: of N rows, as :meth:`columns` returns them.
            responsibilities: [..., K, N].
            state: not read.
        """
        return self.statistics_of(columns, responsibilities)

    def statistics(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> Value:
        """Return the sums over rows that :meth:`update` needs, float64.

        Those of blocks, minibatches or machines may be added, see :func:`mixpyro.numerics.nested.add`.

        Args:
            x: inputs [N, D].
            y: outputs [N, P] or [N].
            responsibilities: [N, K], non-negative; a row that does not sum to one carries a weight.

        Raises:
            ValueError: if a shape does not fit, or a value is negative or not finite.
        """
        x, y = self.check_data(x, y)
        r = arguments.responsibilities(responsibilities, self.n_components, len(x))
        return self.statistics_of(self.columns(x, y), r.mT)

    def check_posterior(self, after: Value, before: Value) -> None:
        """Raise if statistics that a user passed have led to a posterior of other shapes, or to none.

        Args:
            after: the posterior.
            before: a posterior of the right shapes.

        Raises:
            ValueError: if a shape differs or, while values are checked, a value is not finite.
        """
        arguments.posterior(after, like=before)

    @property
    def n_parameters(self) -> int:
        """Number of free parameters of all experts."""
        return int(self.posterior.n_parameters)

    @pyro_method
    def model(self, x: Inputs) -> Value:
        """Sample the parameters from their prior, and return them.

        Args:
            x: inputs [N, D].
        """
        return self.sample(self.prior, x.dtype)

    @pyro_method
    def guide(self, x: Inputs) -> Value:
        """Sample the parameters from their posterior, and return them.

        Args:
            x: inputs [N, D].
        """
        refuse_compiled(module_name(self))
        return self.sample(self.posterior, x.dtype)
