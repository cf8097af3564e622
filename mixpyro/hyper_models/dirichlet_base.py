"""What the two hyper models with Dirichlet weights share; see :mod:`mixpyro.hyper_models`."""

from typing import Any

import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.gates import DirichletGate, ObjectDirichletGate
from mixpyro.hyper_models.attributes import PlainAttributes
from mixpyro.hyper_models.base import (
    HyperModel,
    check_rows,
    checked_responsibilities,
    floating,
    rows_like,
)
from mixpyro.numerics.blocks import repeated


class DirichletHyperModel(PlainAttributes, HyperModel):
    """Base of the two hyper models with Dirichlet weights: the four methods, over a gate.

    Args:
        gate: holds the prior and the posterior.
        device: where the gate is, as the caller named it.
    """

    gate: DirichletGate | ObjectDirichletGate

    def __init__(self, gate: DirichletGate | ObjectDirichletGate, device: str | torch.device) -> None:
        super().__init__()
        self.gate = gate
        self.output_dim = gate.n_components
        self.device = device
        self._dtype, self._n_rows = torch.get_default_dtype(), 0
        self._m_step = MStep(gate) if any(True for _ in gate.parameters()) else None

    def E_step(self, X: Tensor, Y: object, Z: Tensor, HyperParameters: object) -> None:
        """Set the Dirichlet posterior to its optimum given the responsibilities.

        Args:
            X: features [N, D], of which N is read.
            Y: not read.
            Z: responsibilities [N, K], at least zero; a row that does not sum to one carries a weight.
            HyperParameters: not read.

        Raises:
            TypeError: if X or Z is no tensor.
            ValueError: if Z is not [N, K] for the N of X, or holds a negative or non-finite value.
        """
        if self.handed_out:
            self.take_over()
        check_rows(X)
        weights = floating(Z, self.gate.posterior_concentration.device)
        self.gate.update(self._statistics(X.shape[0], weights))
        self._dtype, self._n_rows = weights.dtype, X.shape[0]
        # What callers have of the posterior is of the one before.
        if self.handed_out:
            self.handed_out = {name: one for name, one in self.handed_out.items() if name == "mu"}

    def _statistics(self, n_rows: int, weights: Tensor) -> Any:  # noqa: ANN401 (each gate has its own)
        """Return the gate's statistics; repeat a check of the gate that fails, to name the caller's argument.

        A check before the sums would cost as much as the sums.
        """
        try:
            return self.gate.statistics(weights.new_empty(n_rows, 0), weights)
        except ValueError:
            arguments.responsibilities(weights, self.output_dim, n_rows, name="Z")
            raise

    @arguments.outside_contexts
    def M_step(self, X: Tensor, Y: object, Z: Tensor, HyperParameters: object) -> None:
        """Learn mu by at most 100 steps of L-BFGS in Pyro's SVI; do nothing where mu is fixed.

        Args:
            X: features [N, D], of which N is read.
            Y: not read.
            Z: responsibilities [N, K], at least zero.
            HyperParameters: not read.

        Raises:
            TypeError: if X or Z is no tensor.
            ValueError: if Z is not [N, K] for the N of X, or holds a negative or non-finite value.
            RuntimeError: if the last E-step had another number of rows, for a model with weights of each object.
        """
        if self._m_step is None:
            return
        self.take_over()
        weights = checked_responsibilities(X, Z, self.output_dim, self.gate.posterior_concentration)
        if isinstance(self.gate, ObjectDirichletGate) and len(self.gate.posterior_concentration) != len(weights):
            n_rows = len(self.gate.posterior_concentration)
            raise RuntimeError(
                f"`Z` must have the rows of the last E_step, {n_rows}; got {len(weights)}. Call E_step first."
            )
        self._m_step.improve(rows_like(X, weights), weights, n_steps=100)
        self.handed_out.pop("mu", None)

    def LogPiExpectation(self, X: Tensor, Y: object, HyperParameters: object) -> Tensor:
        """Return E[log π] [N, K], ψ(mₖ) − ψ(Σm) of each object's Dirichlet(m).

        Args:
            X: features [N, D], of which N and the dtype are read.
            Y: not read.
            HyperParameters: not read.

        Raises:
            TypeError: if X is no tensor.
        """
        rows = self._rows(X)
        with torch.no_grad():
            return repeated(self.gate.expected_log_weights(rows, objects=self._objects(rows)), len(rows))

    def PredictPi(self, X: Tensor, HyperParameters: object) -> Tensor:
        """Return E[π] [N, K], m / Σm of each object's Dirichlet(m).

        Args:
            X: features [N, D], of which N and the dtype are read.
            HyperParameters: not read.

        Raises:
            TypeError: if X is no tensor.
        """
        rows = self._rows(X)
        with torch.no_grad():
            return self.gate.weights(rows, objects=self._objects(rows))

    def _rows(self, X: Tensor) -> Tensor:
        """Gate inputs [N, 0] for the N rows of X, in the dtype of the result."""
        if self.handed_out:
            self.take_over()
        check_rows(X)
        # Of eight bits PyTorch promotes none.
        is_number = X.is_floating_point() and X.dtype.itemsize > 1
        dtype = torch.promote_types(self._dtype, X.dtype) if is_number else self._dtype
        return self.gate.posterior_concentration.new_empty((len(X), 0), dtype=dtype)

    def _objects(self, rows: Tensor) -> slice | None:
        """Which objects of the last E-step the rows are; None for new ones."""
        return None
