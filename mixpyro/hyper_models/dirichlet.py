"""The hyper model with one Dirichlet for all objects; see :mod:`mixpyro.hyper_models`."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from mixpyro import arguments
from mixpyro.conjugate.dirichlet import Counts
from mixpyro.gates import DirichletGate
from mixpyro.hyper_models.attributes import PlainAttribute
from mixpyro.hyper_models.base import checked_device
from mixpyro.hyper_models.dirichlet_base import DirichletHyperModel
from mixpyro.numerics.weighted_sums import quick_column_sums


class HyperModelDirichlet(DirichletHyperModel):
    """One Dirichlet over the weights of all objects: :class:`mixpyro.DirichletGate`.

    Args:
        output_dim: K, the number of local models.
        device: ``'cpu'``, ``'cuda'``, ``'cuda:1'``, a torch.device, or ``'gpu'`` for ``'cuda'``.
        mu: the prior's concentration, a number or K of them, above zero.
        mu_prior: a Pyro distribution over a positive number; ``M_step`` then learns mu. Without a prior mu is fixed,
            because it would go to infinity.

    Attributes:
        output_dim: K.
        device: as given, ``'cuda'`` for ``'gpu'``.
        mu: the prior's concentration [K].
        m: the posterior's concentration [K], equal to mu before the first E-step.
        N: rows of the last E-step's Z, 0 before.

    mu and m may be assigned, and changed in place.

    Raises:
        ValueError: if an argument has a value or a length that it cannot have.
        RuntimeError: if the device is not present.

    Example:
        >>> X, Y, Z = torch.zeros(3, 2), torch.zeros(3, 1), torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
        >>> hyper_model = HyperModelDirichlet(output_dim=2)
        >>> hyper_model.E_step(X, Y, Z, {})
        >>> hyper_model.PredictPi(X, {})[0]
        tensor([0.7000, 0.3000])
    """

    gate: DirichletGate

    def __init__(
        self,
        output_dim: int = 2,
        device: str | torch.device = "cpu",
        *,
        mu: float | Tensor = 1.0,
        mu_prior: Distribution | None = None,
    ) -> None:
        arguments.size("output_dim", output_dim)
        device = checked_device(device)
        prior = arguments.positive_vector("mu", mu, output_dim)
        with arguments.renamed(concentration_prior="mu_prior"):
            gate = DirichletGate(output_dim, concentration=prior, concentration_prior=mu_prior, device=device)
        super().__init__(gate, device)
        self.N = 0

    @PlainAttribute
    def mu(self) -> Tensor:
        """The prior's concentration [K].

        A number or K numbers above zero may be assigned, or written into the tensor; they are checked at the next call
        then. They take effect at the next E-step; m stays as it is.

        Raises:
            TypeError: if what is assigned is neither a number nor numbers.
            ValueError: if it has another length, or a value is not finite and above zero.
        """
        return self.gate.prior_concentration.detach().to(self._dtype, copy=True)

    @mu.setter
    def _assign_mu(self, mu: float | Tensor) -> None:
        self.gate.prior_concentration = self._concentration("mu", mu)

    @PlainAttribute
    def m(self) -> Tensor:
        """The posterior's concentration [K].

        A number or K numbers above zero may be assigned, or written into the tensor; they are checked at the next call
        then. The next E-step replaces the tensor.

        Raises:
            TypeError: if what is assigned is neither a number nor numbers.
            ValueError: if it has another length, or a value is not finite and above zero.
        """
        return self.gate.posterior_concentration.to(self._dtype, copy=True)

    @m.setter
    def _assign_m(self, m: float | Tensor) -> None:
        self.gate.posterior_concentration = self._concentration("m", m)

    def _concentration(self, name: str, value: float | Tensor) -> Tensor:
        """Check a concentration [K], and convert it to the gate's dtype and device."""
        return arguments.positive_vector(name, value, self.output_dim).to(self.gate.posterior_concentration)

    def E_step(self, X: Tensor, Y: object, Z: Tensor, HyperParameters: object) -> None:
        """Set m = mu + Σᵢ Zᵢ and N to the number of rows of Z.

        Args:
            X: features [N, D], of which N is read.
            Y: not read.
            Z: responsibilities [N, K], at least zero; a row that does not sum to one carries a weight.
            HyperParameters: not read.

        Raises:
            TypeError: if X or Z is no tensor.
            ValueError: if Z is not [N, K] for the N of X, or holds a negative or non-finite value.
        """
        super().E_step(X, Y, Z, HyperParameters)
        self.N = Z.shape[0]

    @arguments.outside_contexts
    def _statistics(self, weights: Any, n_rows: Any) -> Counts:  # noqa: ANN401 (checked here)
        """Return the sums of responsibilities that are checked once, under the caller's name."""
        return Counts(quick_column_sums(arguments.responsibilities(weights, self.output_dim, n_rows, name="Z")))
