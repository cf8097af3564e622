"""Experts with a single possible value, such as the zeros of a zero-inflated count."""

from collections.abc import Sequence

import torch
from pyro.distributions import Delta
from torch import Tensor

from mixpyro import arguments
from mixpyro.arguments.signals import pass_on
from mixpyro.experts.estimated import EstimatedExperts
from mixpyro.shapes import Inputs, Scalar


class PointMassExperts(EstimatedExperts):
    """P(y = vₖ | z = k) = 1: every component has one possible value, for any x; there is no parameter.

    For use beside other experts in :class:`~mixpyro.experts.HeterogeneousExperts`: a point mass at zero beside a
    Poisson regression is the zero-inflated Poisson model. The others must have probabilities too, as counts and
    categories have; a density at the same value is no probability, and is refused.

    Args:
        n_components: K.
        values: vₖ, finite: one number, a number for each component [K], or all outputs of each [K, P].
        n_outputs: P, the number of columns of y.
        name: prefix of the Pyro site ``<name>.y``.
        device: of the values.
        dtype: of the values; results have the dtype of x. y is compared with them in y's dtype.

    Attributes:
        values: [K, P].

    References:
        Lambert (1992), Zero-inflated Poisson regression, with an application to defects in manufacturing, eq. 1.

    Example:
        >>> experts = PointMassExperts(1)
        >>> experts.expected_log_likelihood(torch.zeros(2, 0), torch.tensor([[0.0], [3.0]])).tolist()
        [[0.0], [-inf]]
    """

    is_discrete = True

    def __init__(
        self,
        n_components: int = 1,
        values: float | Sequence[float] | Sequence[Sequence[float]] | Tensor = 0.0,
        *,
        n_outputs: int = 1,
        name: str = "experts",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(n_components, 0, n_outputs, name=name)
        matrix = _matrix(values, self.n_components, self.n_outputs)
        self.register_buffer("values", matrix.to(device=arguments.device(device), dtype=arguments.dtype(dtype)))

    @property
    def component_tensors(self) -> tuple[str, ...]:
        """The values."""
        return ("values",)

    def kl_divergence(self) -> Scalar:
        """Return zero, float64."""
        return self.values.new_zeros((), dtype=torch.float64)

    def predictive(self, x: Inputs) -> Delta:
        """Return point masses, batch shape [N, K] and event shape [P].

        Args:
            x: inputs [N, D], of which only the number of rows is read.
        """
        return Delta(self.predict(x), event_dim=1)

    def predict(self, x: Inputs) -> Tensor:
        """Return the values [N, K, P], in x's dtype.

        Args:
            x: inputs [N, D], of which only the number of rows is read.
        """
        return self.values.to(x.dtype).expand(len(x), -1, -1)

    def model(self, x: Inputs) -> tuple[()]:
        """Return an empty tuple: there is nothing to sample.

        Args:
            x: inputs [N, D], not read.
        """
        return ()

    def likelihood(self, x: Inputs, parameters: tuple[()], assignment: Tensor) -> Delta:
        """Return the point mass of z.

        Args:
            x: inputs [N, D].
            parameters: what :meth:`model` or :meth:`guide` returned.
            assignment: z [N]. Under enumeration it is [K, 1, …], and so is the batch shape.
        """
        return Delta(self.values.to(x.dtype)[assignment], event_dim=1)


def _matrix(values: object, n_components: int, n_outputs: int) -> Tensor:
    """Return the values [K, P], float64."""
    try:
        given = torch.as_tensor(arguments.of_numbers("values", values), dtype=torch.float64, device="cpu").clone()
    except (TypeError, ValueError, RuntimeError) as error:
        pass_on(error)
        raise TypeError(f"`values` must be a number or numbers; got {arguments.shown(values)}.") from error
    if given.ndim == 1:
        given = given.unsqueeze(-1)
    if given.ndim and (len(given) != n_components or given.shape[1:] not in ((1,), (n_outputs,))):
        raise ValueError(
            f"`values` must be a number, {n_components} numbers or [{n_components}, {n_outputs}]; "
            f"got shape {list(given.shape)}."
        )
    return arguments.finite("values", given).expand(n_components, n_outputs).clone()
