"""What regression and classification have in common: a gate and experts that read columns of X."""

import copy

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mixpyro import arguments
from mixpyro.experts.base import Experts
from mixpyro.frontends.column_reader import ColumnReader, Columns, as_tensor, column_numbers
from mixpyro.frontends.estimator_base import MixtureEstimator, as_array
from mixpyro.frontends.named_rows import layout
from mixpyro.frontends.whole_result import Rows
from mixpyro.gates import BayesianSoftmaxGate, DirichletGate
from mixpyro.gates.base import Gate
from mixpyro.groups import GroupIds
from mixpyro.mixture import MixtureOfExperts
from mixpyro.shapes import Inputs, Outputs
from mixpyro.tables.layout import Layouts

GATES = ("softmax", "dirichlet")


class SupervisedMixture(MixtureEstimator):
    """A gate and experts that read columns of X; the arguments are those of the regressor and the classifier."""

    n_components: int
    gate: str | Gate
    gate_columns: Columns
    expert_columns: Columns

    def _new_experts(self, n_features: int, n_outputs: int) -> Experts:
        """Return experts of D inputs and P outputs."""
        raise NotImplementedError

    def _reads_standardised(self) -> bool:
        """Whether the experts read columns in units of their scales."""
        raise NotImplementedError

    def _encoded(self, y: np.ndarray) -> Float[np.ndarray, "N P"]:
        """Return y as the experts read it."""
        raise NotImplementedError

    def _prepare(self, x: Inputs, y: Outputs, weights: Float[Tensor, " N"] | None) -> MixtureOfExperts:
        names = list(getattr(self, "feature_names_in_", []))
        read = {
            name: column_numbers(name, getattr(self, name), names, x.shape[1])
            for name in ("gate_columns", "expert_columns")
        }
        own = read["expert_columns"]
        self._experts_reader = (
            ColumnReader.standardising(own, x, weights) if self._reads_standardised() else ColumnReader(own)
        )
        gate = self._new_gate(len(read["gate_columns"]))
        self._gate_reader = self._reader_of(gate, read["gate_columns"], x, weights)
        experts = self._new_experts(len(own), y.shape[1])
        for name, part in (("gate", gate), ("experts", experts)):
            if part.n_components != self.n_components:
                raise ValueError(
                    f"`n_components` must be {part.n_components}, that of `{name}`; got {self.n_components}."
                )
        return MixtureOfExperts(gate, experts)

    def _reader_of(
        self, gate: Gate, numbers: list[int], x: Inputs, weights: Float[Tensor, " N"] | None
    ) -> ColumnReader | None:
        """Return what reads the gate's columns; None where it has none."""
        if not isinstance(self.gate, str):
            return ColumnReader(numbers)
        return ColumnReader.standardising(numbers, x, weights) if gate.reads_inputs else None

    def _new_gate(self, n_features: int) -> Gate:
        """Return a gate of G inputs."""
        if isinstance(self.gate, Gate):
            return copy.deepcopy(self.gate)
        if not isinstance(self.gate, str) or self.gate not in GATES:
            raise ValueError(
                f"`gate` must be one of {list(GATES)}, or a mixpyro gate; got {arguments.shown(self.gate)}."
            )
        if self.gate == "dirichlet":
            return DirichletGate(self.n_components)
        return BayesianSoftmaxGate(self.n_components, n_features)

    def _rows(self, x: Inputs, y: Outputs) -> Rows:
        return Rows(self._experts_reader(x), y, self._gate_inputs(x))

    def _layouts(self) -> Layouts:
        names = self.feature_names_in_
        of_experts, of_gate = (
            None if own is None else layout(names[own.numbers], scaled=own.scales is not None)
            for own in (self._experts_reader, self._gate_reader)
        )
        return Layouts(x=of_experts, gate_x=of_gate)

    def _gate_inputs(self, x: Inputs) -> Inputs | None:
        """Return what the gate reads of rows."""
        return None if self._gate_reader is None else self._gate_reader(x)

    def _inputs(self, X: object) -> tuple[Tensor, dict[str, Tensor | None]]:
        """Return what the experts read of new rows, and what the gate reads as an argument."""
        x = as_tensor(self._checked(X))
        return self._experts_reader(x), {"gate_x": self._gate_inputs(x)}

    def _checked_pair(self, X: object, y: object, *, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return checked X [N, D] and y, as a user has it."""
        raise NotImplementedError

    def _new_rows(self, X: object, y: object) -> Rows:
        """Return what the mixture reads of new rows with their outputs."""
        self._checked(X)
        x, targets = self._checked_pair(X, y, reset=False)
        return self._rows(as_tensor(x), as_tensor(self._encoded(targets)))

    def gate_weights(self, X: object) -> Float[np.ndarray, "N K"]:
        """Return the probability of each component given X alone [N, K]: what the gate says before y is seen.

        Args:
            X: rows [N, D].
        """
        experts_x, own = self._inputs(X)
        x = experts_x if own["gate_x"] is None else own["gate_x"]
        weights = self.mixture_.gate.weights(x).detach()
        return as_array(weights.expand(len(x), -1).clone())

    def responsibilities(self, X: object, y: object, groups: GroupIds | None = None) -> Float[np.ndarray, "N K"]:
        """Return the probability of each component given X and y [N, K].

        Args:
            X: rows [N, D].
            y: their outputs.
            groups: an id of the group of each row [N], where the fit had groups: N are groups then, by first row.
        """
        x, targets, gate_x = self._new_rows(X, y)
        return as_array(self.mixture_.assign(x, targets, gate_x=gate_x, groups=groups).responsibilities)

    def log_prob(self, X: object, y: object, groups: GroupIds | None = None) -> Float[np.ndarray, " N"]:
        """Return the log predictive density, or probability, of each row's y given X [N], in nats.

        Its mean over held-out rows compares models, of other families too: a scorer is ``lambda model, X, y:
        model.log_prob(X, y).mean()``.

        Args:
            X: rows [N, D].
            y: their outputs.
            groups: as for :meth:`responsibilities`.
        """
        x, targets, gate_x = self._new_rows(X, y)
        return as_array(self.mixture_.log_prob(x, targets, gate_x=gate_x, groups=groups))
