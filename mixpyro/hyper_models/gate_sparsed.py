"""The hyper model with a Dirichlet for each object; see :mod:`mixpyro.hyper_models`."""

import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.gates import ObjectDirichletGate
from mixpyro.hyper_models.attributes import PlainAttribute
from mixpyro.hyper_models.base import checked_device
from mixpyro.hyper_models.dirichlet_base import DirichletHyperModel


class HyperModelGateSparsed(DirichletHyperModel):
    """A Dirichlet over the weights of each object: :class:`mixpyro.ObjectDirichletGate`.

    ``LogPiExpectation`` and ``PredictPi`` know no objects by name. If X has as many rows as in the last E-step, they
    take these to be the same objects in the same order. If X has any other number of rows, they take all of them to be
    new objects, which have the population's weights mu. This rule holds for this adapter only: the gate itself takes
    rows to be new unless it is given ``objects=``.

    Args:
        output_dim: K, the number of local models.
        gamma: how close an object's weights are to mu, above zero.
        mu: the population's weights, K numbers above zero, divided by their sum; uniform by default.
        device: ``'cpu'``, ``'cuda'``, ``'cuda:1'``, a torch.device, or ``'gpu'`` for ``'cuda'``.
        learn_mu: whether ``M_step`` learns mu.

    Attributes:
        output_dim: K.
        device: as given, ``'cuda'`` for ``'gpu'``.
        gamma: as given.
        mu: the population's weights [K], which sum to one.
        mu_posterior: mean of each object's weights [N, K] after an E-step, mu before.
        gamma_posterior: sum of each object's concentration [N, 1] after an E-step, gamma before.

    All may be assigned, and the tensors changed in place.

    Raises:
        ValueError: if an argument has a value or a length that it cannot have.
        RuntimeError: if the device is not present.

    Example:
        >>> X, Y, Z = torch.zeros(2, 2), torch.zeros(2, 1), torch.tensor([[1.0, 0.0], [0.5, 0.5]])
        >>> hyper_model = HyperModelGateSparsed(output_dim=2)
        >>> hyper_model.E_step(X, Y, Z, {})
        >>> hyper_model.PredictPi(X, {})
        tensor([[0.7500, 0.2500],
                [0.5000, 0.5000]])
    """

    gate: ObjectDirichletGate

    def __init__(
        self,
        output_dim: int = 2,
        gamma: float = 1.0,
        mu: Tensor | None = None,
        device: str | torch.device = "cpu",
        *,
        learn_mu: bool = False,
    ) -> None:
        arguments.size("output_dim", output_dim)
        device = checked_device(device)
        gamma = arguments.positive_number("gamma", gamma)
        mean = None if mu is None else arguments.positive_vector("mu", mu, output_dim)
        learn_mu = arguments.flag("learn_mu", learn_mu)
        gate = ObjectDirichletGate(output_dim, concentration=gamma, mean=mean, learn_mean=learn_mu, device=device)
        super().__init__(gate, device)

    def _objects(self, rows: Tensor) -> slice | None:
        """All objects of the last E-step where there are as many rows, else new ones."""
        # shape[0], because len() of a tensor is a Python function.
        return slice(None) if rows.shape[0] == self._n_rows else None

    @property
    def gamma(self) -> float:
        """How close an object's weights are to mu.

        A number above zero may be assigned. It takes effect at the next E-step.

        Raises:
            TypeError: if what is assigned is no number.
            ValueError: if it is not finite and above zero.
        """
        return float(self.gate.concentration)

    @gamma.setter
    def gamma(self, gamma: float) -> None:
        number = arguments.positive_number("gamma", gamma)
        self.gate.concentration = torch.full_like(self.gate.concentration, number)

    @PlainAttribute
    def mu(self) -> Tensor:
        """The population's weights [K].

        A number or K numbers above zero may be assigned, or written into the tensor; they are checked at the next call
        then. They are divided by their sum. New objects have them at once, those of the last E-step from the next one
        on.

        Raises:
            TypeError: if what is assigned is neither a number nor numbers.
            ValueError: if it has another length, or a value is not finite and above zero.
        """
        return self.gate.mean.detach().to(self._dtype, copy=True)

    @mu.setter
    def _assign_mu(self, mu: float | Tensor) -> None:
        weights = arguments.positive_vector("mu", mu, self.output_dim)
        self.gate.mean = (weights / weights.sum()).to(self.gate.mean.detach())

    @PlainAttribute
    def mu_posterior(self) -> Tensor:
        """Mean of each object's weights [N, K] after an E-step, mu before.

        Numbers above zero may be assigned, or written into the tensor; they are checked at the next call then. Each row
        is divided by its sum. The next E-step replaces the tensor.

        Raises:
            TypeError: if what is assigned is neither a number nor numbers.
            ValueError: if it has another shape, or a value is not finite and above zero.
        """
        m = self.gate.posterior_concentration
        return m / m.sum(-1, keepdim=True) if len(m) else self.gate.mean.detach().to(self._dtype, copy=True)

    @mu_posterior.setter
    def _assign_mu_posterior(self, mean: float | Tensor) -> None:
        m = self.gate.posterior_concentration
        if not len(m):
            self._assign_mu(mean)
            return
        weights = _positive("mu_posterior", mean, m.shape)
        self._hold(weights / weights.sum(-1, keepdim=True) * m.sum(-1, keepdim=True))

    @PlainAttribute
    def gamma_posterior(self) -> Tensor | float:
        """Sum of each object's concentration [N, 1] after an E-step, gamma before.

        Numbers above zero may be assigned, or written into the tensor; they are checked at the next call then. The next
        E-step replaces the tensor.

        Raises:
            TypeError: if what is assigned is neither a number nor numbers.
            ValueError: if it has another shape, or a value is not finite and above zero.
        """
        m = self.gate.posterior_concentration
        return m.sum(-1, keepdim=True) if len(m) else self.gamma

    @gamma_posterior.setter
    def _assign_gamma_posterior(self, concentration: float | Tensor) -> None:
        m = self.gate.posterior_concentration
        if not len(m):
            self.gamma = float(_positive("gamma_posterior", concentration, torch.Size([])))
            return
        self._hold(m / m.sum(-1, keepdim=True) * _positive("gamma_posterior", concentration, m[:, :1].shape))

    def _hold(self, concentration: Tensor) -> None:
        """Take over the concentration [N, K] of the objects of the last E-step."""
        self.gate.posterior_concentration = concentration.to(self.gate.posterior_concentration)


def _positive(name: str, value: float | Tensor, shape: torch.Size) -> Tensor:
    """Return finite numbers above zero repeated to a shape, float64."""
    numbers = arguments.filled(name, value, tuple(shape))
    if not bool((numbers > 0).all()):
        raise ValueError(f"`{name}` must be finite and above 0; got values from {float(numbers.min()):.6g}.")
    return numbers
