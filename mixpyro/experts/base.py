"""What every bank of experts is: K densities of y given x, of one family."""

from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import pyro_method
from torch import Tensor

from mixpyro import arguments
from mixpyro.part import ConjugatePart, EstimatedPart, Part, State
from mixpyro.shapes import Inputs, Outputs, Responsibilities, Scalar, Targets


class Experts(Part):
    """K experts p(y | x, k), computed together: what conjugate and estimated ones have in common.

    Args:
        n_components: K, at least one.
        n_features: D, the number of columns of x; zero for experts that read none of them.
        n_outputs: P, the number of columns of y.
        name: prefix of the Pyro sites, as in ``experts.y``.
    """

    # Whether the likelihood is a probability of y, as for counts, rather than a density.
    is_discrete: bool = False

    def __init__(self, n_components: int, n_features: int, n_outputs: int, *, name: str) -> None:
        super().__init__(n_components, name=name)
        self.n_features = arguments.integer("n_features", n_features, least=0)
        self.n_outputs = arguments.integer("n_outputs", n_outputs)
        self.first_component = 0

    def number_components_from(self, first: int) -> None:
        """Number the components in messages from another number than zero.

        Args:
            first: number of this bank's first component in a larger bank.
        """
        self.first_component = first

    def check_inputs(self, x: object) -> Tensor:
        """Return x [N, D] if it fits these experts and is finite.

        Args:
            x: inputs [N, D]. Experts without inputs take any x, and read no column of it.

        Raises:
            TypeError: if x is no floating tensor.
            ValueError: if its shape does not fit, or a value is not finite.
        """
        if self.n_features == 0:
            return arguments.inputs(x)[:, :0]
        return arguments.inputs(x, n_features=self.n_features)

    def check_data(self, x: object, y: object) -> tuple[Tensor, Tensor]:
        """Return x [N, D] and y [N, P] if they fit these experts and are finite.

        Args:
            x: inputs [N, D].
            y: outputs [N, P], or [N] for one output.

        Raises:
            TypeError: if x or y is no floating tensor.
            ValueError: if a shape or dtype does not fit, or a value is not finite.
        """
        checked = self.check_inputs(x)
        return checked, arguments.outputs(y, checked, n_outputs=self.n_outputs)

    def centre(self, x: Inputs, y: Targets) -> None:
        """Choose an origin or a scale for the numerics from the data, and forget the data seen. Nothing by default.

        Args:
            x: inputs [N, D].
            y: outputs [N, P] or [N].
        """

    def columns(self, x: Inputs, y: Outputs) -> Any:  # noqa: ANN401 (a nest of tensors)
        """Return what the formulas read of the rows: a nest of tensors, rows along the last axis.

        A fit computes it once. Arguments are as :meth:`check_data` returns them.

        Args:
            x: inputs [N, D].
            y: outputs [N, P].
        """
        raise NotImplementedError

    def log_likelihoods(self, columns: Any, state: State | None = None) -> Float[Tensor, "*R K N"]:  # noqa: ANN401
        """Return E_q[log p(yᵢ | xᵢ, k)] in nats, [R, K, N], or [K, N] under these experts' own posterior.

        Args:
            columns: of N rows, as :meth:`columns` returns them.
            state: of R runs; the experts' own without an axis of runs by default, with its gradient.
        """
        raise NotImplementedError

    def sums(self, columns: Any, responsibilities: Float[Tensor, "R K N"]) -> Any:  # noqa: ANN401
        """Return the statistics of R runs, sums over the rows; an empty tuple for experts without.

        Args:
            columns: of N rows, as :meth:`columns` returns them.
            responsibilities: [R, K, N].
        """
        return ()

    def expected_log_likelihood(self, x: Inputs, y: Targets) -> Responsibilities:
        """Return E_q[log p(yᵢ | xᵢ, k)] [N, K] in nats, in x's dtype.

        Args:
            x: inputs [N, D].
            y: outputs [N, P] or [N].
        """
        return self.log_likelihoods(self.columns(*self.check_data(x, y))).mT

    def partial_bound(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> Scalar:
        """Return the experts' share of the bound in nats, Σ r E_q[log p(y | k)] − KL(q‖p).

        Where an object has no part in a component its y may be impossible there: 0 · (−∞) counts as 0.

        Args:
            x: inputs [N, D].
            y: outputs [N, P] or [N].
            responsibilities: [N, K].
        """
        weighted = responsibilities * self.expected_log_likelihood(x, y)
        return torch.where(responsibilities != 0, weighted, 0.0).sum() - self.kl_divergence()

    def degeneracies(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> list[str]:
        """Return what makes the maximum of the likelihood worthless, in words; nothing where posteriors forbid it.

        Args:
            x: inputs [N, D].
            y: outputs [N, P].
            responsibilities: [N, K].
        """
        return []

    def cautions(self) -> list[str]:
        """Return what an analyst should look at before trusting the posteriors, in words."""
        return []

    def predictive(self, x: Inputs) -> TorchDistributionMixin:
        """Return the predictive distribution of every expert's y, batch shape [N, K] and event shape [P].

        Args:
            x: inputs [N, D].
        """
        raise NotImplementedError

    def predict(self, x: Inputs) -> Tensor:
        """Return every expert's predictive mean of y [N, K, P], in x's dtype.

        Args:
            x: inputs [N, D].
        """
        mean: Tensor = self.predictive(x).mean
        return mean

    @pyro_method
    def model(self, x: Inputs) -> Any:  # noqa: ANN401
        """Sample the parameters from their prior, outside any plate, and return them.

        Args:
            x: inputs [N, D].
        """
        raise NotImplementedError

    @pyro_method
    def guide(self, x: Inputs) -> Any:  # noqa: ANN401
        """Sample the parameters from their posterior, and return them as :meth:`model` does.

        Args:
            x: inputs [N, D].
        """
        raise NotImplementedError

    def likelihood(self, x: Inputs, parameters: Any, assignment: Tensor) -> TorchDistributionMixin:  # noqa: ANN401
        """Return p(y | x, z, parameters), batch shape [N] and event shape [P].

        Args:
            x: inputs [N, D].
            parameters: what :meth:`model` or :meth:`guide` returned.
            assignment: z [N]. Under enumeration it is [K, 1, …], and so is the batch shape.
        """
        raise NotImplementedError


class ConjugateExperts(ConjugatePart, Experts):
    """Experts with an analytic posterior over their parameters, updated from sums over the rows.

    To write, seven members: ``prior``, :meth:`columns`, :meth:`log_likelihood`, :meth:`statistics_of`,
    :meth:`predictive`, :meth:`sample` and :meth:`likelihood`.
    """

    def log_likelihood(self, columns: Float[Tensor, "F N"], posterior: Any) -> Float[Tensor, "*R K N"]:  # noqa: ANN401
        """Return E_q[log p(yᵢ | xᵢ, k)] [..., K, N] in nats, in the columns' dtype.

        Args:
            columns: of N rows, as :meth:`columns` returns them.
            posterior: q, with any leading axes of runs.
        """
        raise NotImplementedError

    def statistics_of(self, columns: Float[Tensor, "F N"], responsibilities: Float[Tensor, "*R K N"]) -> Any:  # noqa: ANN401
        """Return the sums over rows that the update needs, a NamedTuple of float64 tensors [..., K, …].

        Args:
            columns: of N rows, as :meth:`columns` returns them.
            responsibilities: [..., K, N].
        """
        raise NotImplementedError

    def sample(self, posterior: Any, dtype: torch.dtype) -> Any:  # noqa: ANN401
        """Sample the parameters at their Pyro sites from a prior or posterior, and return them.

        Args:
            posterior: a value such as ``prior`` and ``posterior``, without leading axes of runs.
            dtype: of the draws.
        """
        raise NotImplementedError

    def log_likelihoods(self, columns: Any, state: State | None = None) -> Float[Tensor, "*R K N"]:  # noqa: ANN401
        """Return E_q[log p(yᵢ | xᵢ, k)] in nats for all runs at once; arguments as :meth:`Experts.log_likelihoods`."""
        return self.log_likelihood(columns, self.posterior if state is None else state.posterior)

    def sums(self, columns: Any, responsibilities: Float[Tensor, "R K N"]) -> Any:  # noqa: ANN401
        """Return the statistics of R runs; arguments as :meth:`statistics_of`."""
        return self.statistics_of(columns, responsibilities)

    def statistics(self, x: Inputs, y: Targets, responsibilities: Responsibilities) -> Any:  # noqa: ANN401
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

    @property
    def n_parameters(self) -> int:
        """Number of free parameters of all experts."""
        return int(self.posterior.n_parameters)

    @pyro_method
    def model(self, x: Inputs) -> Any:  # noqa: ANN401
        """Sample the parameters from their prior, and return them.

        Args:
            x: inputs [N, D].
        """
        return self.sample(self.prior, x.dtype)

    @pyro_method
    def guide(self, x: Inputs) -> Any:  # noqa: ANN401
        """Sample the parameters from their posterior, and return them.

        Args:
            x: inputs [N, D].
        """
        return self.sample(self.posterior, x.dtype)


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

    def log_likelihoods(self, columns: Any, state: State | None = None) -> Float[Tensor, "*R K N"]:  # noqa: ANN401
        """Return log p(yᵢ | xᵢ, k) in nats, run by run; arguments as :meth:`Experts.log_likelihoods`."""
        x, y = (part.mT for part in columns)
        if state is None:
            return self.log_likelihood(x, y).mT
        return torch.stack(self.in_each_run(state, lambda _: self.log_likelihood(x, y).mT))

    @pyro_method
    def guide(self, x: Inputs) -> Any:  # noqa: ANN401
        """Return the parameters as :meth:`model` does: there is nothing to sample.

        Args:
            x: inputs [N, D].
        """
        return self.model(x)
