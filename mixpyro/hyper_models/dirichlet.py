"""The two hyper models whose weights are Dirichlet; see :mod:`mixpyro.hyper_models`."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from mixpyro import arguments
from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.gates import DirichletGate, ObjectDirichletGate
from mixpyro.hyper_models.base import (
    HyperModel,
    HyperParametersDict,
    check_rows,
    checked_device,
    checked_responsibilities,
    floating,
    rows_like,
)
from mixpyro.numerics.blocks import repeated
from mixpyro.shapes import Value


class _DirichletHyperModel(HyperModel):
    """What the two Dirichlet adapters share: everything but their attributes."""

    gate: DirichletGate | ObjectDirichletGate

    def __init__(self, gate: DirichletGate | ObjectDirichletGate, device: str | torch.device) -> None:
        self.gate = gate
        self.output_dim = gate.n_components
        self.device = device
        self._dtype = torch.get_default_dtype()
        self._m_step = MStep(gate) if any(True for _ in gate.parameters()) else None

    def E_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: HyperParametersDict) -> None:
        """Set the Dirichlet posterior to its optimum given Z.

        Raises:
            TypeError: if X or Z is no tensor.
            ValueError: if Z is not [N, K] for the N of X, or holds a negative or non-finite value.
        """
        check_rows(X)
        weights = floating(Z, self.gate.posterior_concentration.device)
        self.gate.update(self._statistics(X.shape[0], weights))
        self._dtype = weights.dtype

    def _statistics(self, n_rows: int, weights: Tensor) -> Value:
        """The gate's, which checks what it gets; what it refuses is refused again, by the name that the caller knows.

        A check before would cost as much as the sums.
        """
        try:
            return self.gate.statistics(weights.new_empty(n_rows, 0), weights)
        except ValueError:
            arguments.responsibilities(weights, self.output_dim, n_rows, name="Z")
            raise

    def M_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: HyperParametersDict) -> None:
        """SVI on mu where it was asked to be learnt, by at most 100 steps of L-BFGS; else nothing, unchecked.

        Raises:
            TypeError: if X or Z is no tensor.
            ValueError: if Z is not [N, K] for the N of X, or holds a negative or non-finite value.
            RuntimeError: if there was no E-step on as many rows, for a model that learns a mu of the objects.
        """
        if self._m_step is None:
            return
        weights = checked_responsibilities(X, Z, self.output_dim, self.gate.posterior_concentration)
        if isinstance(self.gate, ObjectDirichletGate) and len(self.gate.posterior_concentration) != len(weights):
            n_rows = len(self.gate.posterior_concentration)
            raise RuntimeError(
                f"`Z` must have the rows of the last E_step, {n_rows}; got {len(weights)}. Call E_step first."
            )
        self._m_step.improve(rows_like(X, weights), weights, n_steps=100)

    def LogPiExpectation(self, X: Tensor, Y: Tensor, HyperParameters: HyperParametersDict) -> Tensor:
        """E[log π] [N, K], ψ(mₖ) − ψ(Σm) of each object's Dirichlet(m)."""
        rows = self._rows(X)
        with torch.no_grad():
            return repeated(self.gate.expected_log_weights(rows), len(rows))

    def PredictPi(self, X: Tensor, HyperParameters: HyperParametersDict) -> Tensor:
        """E[π] [N, K], m / Σm of each object's Dirichlet(m)."""
        with torch.no_grad():
            return self.gate.weights(self._rows(X))

    def _rows(self, X: Tensor) -> Tensor:
        """As many rows as X has, in the dtype of the result."""
        check_rows(X)
        dtype = torch.promote_types(self._dtype, X.dtype) if X.is_floating_point() else self._dtype
        return self.gate.posterior_concentration.new_empty((len(X), 0), dtype=dtype)


class HyperModelDirichlet(_DirichletHyperModel):
    """One Dirichlet over the weights of all objects: :class:`mixpyro.DirichletGate`.

    Args:
        output_dim: K, the number of local models.
        device: ``'cpu'``, ``'cuda'``, ``'cuda:1'``, a torch.device, or ``'gpu'`` for ``'cuda'``.
        mu: the prior's concentration, a number or K of them, above zero.
        mu_prior: a Pyro distribution over a positive number; ``M_step`` then learns mu, which without a prior it cannot
            (mu would go to infinity).

    Attributes:
        output_dim: K.
        device: as given, ``'cuda'`` for ``'gpu'``.
        mu: the prior's concentration [K].
        m: the posterior's concentration [K], equal to mu before the first E-step.
        N: rows of the last E-step's Z, 0 before.

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

    def __init__(
        self,
        output_dim: int = 2,
        device: str | torch.device = "cpu",
        *,
        mu: float | Tensor = 1.0,
        mu_prior: Distribution | None = None,
    ) -> None:
        arguments.integer("output_dim", output_dim)
        device = checked_device(device)
        prior = arguments.positive_vector("mu", mu, output_dim)
        super().__init__(
            DirichletGate(output_dim, concentration=prior, concentration_prior=mu_prior, device=device), device
        )
        self.N = 0

    @property
    def mu(self) -> Tensor:
        """The prior's concentration [K]."""
        return self.gate.prior_concentration.detach().to(self._dtype, copy=True)

    @property
    def m(self) -> Tensor:
        """The posterior's concentration [K]."""
        return self.gate.posterior_concentration.to(self._dtype, copy=True)

    def E_step(self, X: Tensor, Y: Tensor, Z: Tensor, HyperParameters: HyperParametersDict) -> None:
        """m = mu + Σᵢ Zᵢ, N = rows of Z; errors as in the base class."""
        super().E_step(X, Y, Z, HyperParameters)
        self.N = Z.shape[0]


class HyperModelGateSparsed(_DirichletHyperModel):
    """A Dirichlet over the weights of each object: :class:`mixpyro.ObjectDirichletGate`.

    ``LogPiExpectation`` and ``PredictPi`` take as many rows as the last E-step had to be its rows; any other number of
    rows are unseen objects, who have the population's weights mu.

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

    def __init__(
        self,
        output_dim: int = 2,
        gamma: float = 1.0,
        mu: Tensor | None = None,
        device: str | torch.device = "cpu",
        *,
        learn_mu: bool = False,
    ) -> None:
        arguments.integer("output_dim", output_dim)
        device = checked_device(device)
        self.gamma = arguments.positive_number("gamma", gamma)
        mean = None if mu is None else arguments.positive_vector("mu", mu, output_dim)
        gate = ObjectDirichletGate(output_dim, concentration=self.gamma, mean=mean, learn_mean=learn_mu, device=device)
        super().__init__(gate, device)

    @property
    def mu(self) -> Tensor:
        """The population's weights [K]."""
        return self.gate.mean.detach().to(self._dtype, copy=True)

    @property
    def mu_posterior(self) -> Tensor:
        """Mean of each object's weights [N, K] after an E-step, mu before."""
        m = self.gate.posterior_concentration
        return m / m.sum(-1, keepdim=True) if len(m) else self.mu

    @property
    def gamma_posterior(self) -> Tensor | float:
        """Sum of each object's concentration [N, 1] after an E-step, gamma before."""
        m = self.gate.posterior_concentration
        return m.sum(-1, keepdim=True) if len(m) else self.gamma
