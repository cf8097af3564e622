"""A mixture of experts: one gate, one bank of experts, and the bound that ties them together."""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import MixtureSameFamily
from pyro.nn import pyro_method
from torch import Tensor

from mixpyro import arguments
from mixpyro.distributions.quantiles import mixture_quantiles
from mixpyro.experts.base import Experts
from mixpyro.fitted_columns import RemembersColumns
from mixpyro.gates.base import Gate
from mixpyro.numerics.far_rows import FAR, normalised_joint, rounded
from mixpyro.part import State, refuse_unread_overrides
from mixpyro.pyro_internals.compiled import refuse_compiled
from mixpyro.pyro_internals.names import site_name
from mixpyro.pyro_internals.plates import OBJECTS_PLATE, objects_plate
from mixpyro.shapes import GateInputs, Inputs, ObjectIndices, Outputs, Responsibilities, Scalar, Targets, Value

PREDICTIONS = ("assign", "bound", "predict", "predictive", "quantile", "log_prob")
GUARDED = functools.partial(arguments.guarded, predictions=PREDICTIONS, others=("expected_log_joint", "model", "guide"))


class Assignment(NamedTuple):
    """Assignments of N objects under the current posteriors."""

    responsibilities: Tensor  # q(z) [N, K], rows sum to one
    log_evidence: Tensor  # logsumexp over k of E log π + E log p(y | k) [N], nats


class MixtureState(NamedTuple):
    """What a fit changes in a mixture. Every tensor has a leading axis of runs where there are several."""

    gate: State
    experts: State


@GUARDED
class MixtureOfExperts(RemembersColumns):
    """zᵢ ~ gate(xᵢ), yᵢ | zᵢ = k ~ expert k given xᵢ, as one Pyro model and guide with an exact lower bound.

    The gate and the experts become parts of the mixture: their sites are ``gate.…`` and ``experts.…`` from then on,
    with the mixture's name in front if it has one. :func:`mixpyro.fit` fits it. After a fit, ``gate_x`` must be given
    wherever rows are, or nowhere, as in the fit.

    Args:
        gate: a gate of K components.
        experts: a bank of K experts.
        name: prefix of every Pyro site and of the plate ``objects``, for two mixtures in one program.

    Raises:
        ValueError: if the gate and the experts differ in K.

    References:
        Bishop (2006), Pattern Recognition and Machine Learning, section 10.2;
        Jordan, Jacobs (1994), Hierarchical mixtures of experts and the EM algorithm.

    Example:
        >>> from mixpyro import DirichletGate, LinearExperts
        >>> mixture = MixtureOfExperts(DirichletGate(2), LinearExperts(2, n_features=1))
        >>> mixture.predict(torch.zeros(5, 1)).shape
        torch.Size([5, 1])
    """

    unread: ClassVar[Mapping[str, str]] = {"expected_log_joint": "log_joint"}

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401
        super().__init_subclass__(**options)
        GUARDED(cls)
        refuse_unread_overrides(cls)

    def __init__(self, gate: Gate, experts: Experts, *, name: str = "") -> None:
        super().__init__(name)
        for argument, value, kind in (("gate", gate, Gate), ("experts", experts, Experts)):
            if not isinstance(value, kind):
                raise TypeError(f"`{argument}` must be a mixpyro {kind.__name__}; got {type(value).__name__}.")
        if gate.n_components != experts.n_components:
            raise ValueError(
                f"`experts` must have as many components as `gate`, {gate.n_components}; got {experts.n_components}."
            )
        self.gate = gate
        self.experts = experts

    @property
    def n_components(self) -> int:
        """K."""
        return int(self.gate.n_components)

    def check_data(
        self, x: object, y: object, gate_x: object = None, *, new_fit: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return x [N, D], y [N, P] and the gate's inputs, x without any of their own, if they fit and are finite.

        Args:
            x: inputs [N, D].
            y: outputs [N, P] or [N].
            gate_x: what the gate reads [N, G], where that is not x.
            new_fit: whether the columns may be others than those of the last fit.

        Raises:
            TypeError: if one is not a floating tensor.
            ValueError: if a shape does not fit, a value is not finite, or the device is another one.
        """
        checked_x, checked_y = self.experts.check_data(x, y)
        checked_gate_x = self.gate_inputs(arguments.inputs(x), gate_x, new_fit=new_fit)
        for tensor in (*self.parameters(), *self.buffers()):
            for name, value in (("x", checked_x), ("y", checked_y), ("gate_x", checked_gate_x)):
                arguments.same_device(name, value, tensor.device)
        return checked_x, checked_y, checked_gate_x

    def state(self) -> MixtureState:
        """Return a copy of what a fit changes in the gate and the experts."""
        return MixtureState(self.gate.state(), self.experts.state())

    def hold(self, state: MixtureState) -> None:
        """Take over the state of one run.

        Args:
            state: what :meth:`state` returned, without an axis of runs.
        """
        self.gate.hold(state.gate)
        self.experts.hold(state.experts)

    def log_joint(
        self,
        gate_x: GateInputs,
        columns: Value,
        state: MixtureState | None = None,
        *,
        objects: ObjectIndices | None = None,
    ) -> Float[Tensor, "*R K N"]:
        """Return E_q[log π] + E_q[log p(y | k)] in nats, [R, K, N], or [K, N] under the mixture's own posteriors.

        All assignments follow from it: a subclass that changes the model overrides this method.

        Args:
            gate_x: what the gate reads [N, G].
            columns: what the experts read, as :meth:`Experts.columns` returns it.
            state: of R runs; the mixture's own by default, with its gradient.
            objects: as for :meth:`assign`.
        """
        gate, experts = (None, None) if state is None else state
        return self.gate.log_weights(gate_x, gate, objects=objects) + self.experts.log_likelihoods(columns, experts)

    def expected_log_joint(
        self, x: Inputs, y: Targets, *, gate_x: GateInputs | None = None, objects: ObjectIndices | None = None
    ) -> Responsibilities:
        """Return E_q[log π] + E_q[log p(y | k)] [N, K] in nats, with its gradient; arguments as :meth:`assign`."""
        x, y, gate_x = self.check_data(x, y, gate_x)
        return self.log_joint(gate_x, self.experts.columns(x, y), objects=objects).mT

    def assign(
        self, x: Inputs, y: Targets, *, gate_x: GateInputs | None = None, objects: ObjectIndices | None = None
    ) -> Assignment:
        """Return responsibilities and log evidences under the current posteriors: the variational E-step for z.

        Args:
            x: inputs [N, D].
            y: outputs [N, P] or [N].
            gate_x: what the gate reads [N, G], where that is not x.
            objects: which objects of the last update the rows are, for a gate that keeps a posterior of each: indices
                [N], or ``slice(None)`` for all in order. Rows are new objects by default.
        """
        x, y, gate_x = self.check_data(x, y, gate_x)
        columns = self.experts.columns(x, y)
        shares, log_evidence = normalised_joint(self.log_joint, gate_x, columns, objects=objects, far=FAR)
        return Assignment(shares.mT, rounded(log_evidence, x.dtype))

    @torch.no_grad()
    def kl_divergence(self) -> Scalar:
        """Return KL(q‖p) of gate and experts together in nats, float64."""
        return self.gate.kl_divergence() + self.experts.kl_divergence()

    def bound(
        self, x: Inputs, y: Targets, *, gate_x: GateInputs | None = None, objects: ObjectIndices | None = None
    ) -> Scalar:
        """Return the lower bound on log p(y | x) in nats, with every constant, at the best q(z); a float64 scalar.

        Σᵢ logsumexpₖ(E log πᵢₖ + E log p(yᵢ | k)) − KL(gate) − KL(experts); Bishop (2006), eq. 10.70 at the best q(z).

        Args:
            x: inputs [N, D].
            y: outputs [N, P] or [N].
            gate_x: as for :meth:`assign`.
            objects: as for :meth:`assign`.
        """
        log_evidence = self.assign(x, y, gate_x=gate_x, objects=objects).log_evidence
        return log_evidence.sum(dtype=torch.float64) - self.kl_divergence()

    def predict(self, x: Inputs, *, gate_x: GateInputs | None = None) -> Outputs:
        """Return the predictive mean of new objects' y [N, P]: the experts' means, weighted by the gate.

        Args:
            x: inputs [N, D].
            gate_x: what the gate reads [N, G], where that is not x.
        """
        experts_x, gate_x = self.experts.check_inputs(x), self.gate_inputs(x, gate_x)
        # In float64: of a far row the terms are large, and may cancel.
        weights = self.gate.weights(gate_x.double()).unsqueeze(-1)
        terms = weights * self.experts.predict(experts_x.double())
        # Where a component has no weight its mean may be infinite: 0 · ∞ counts as 0.
        return terms.masked_fill(weights == 0, 0.0).sum(1).to(x.dtype)

    def predictive(self, x: Inputs, *, gate_x: GateInputs | None = None) -> MixtureSameFamily:
        """Return the predictive distribution of new objects' y, batch shape [N] and event shape [P].

        Args:
            x: inputs [N, D].
            gate_x: what the gate reads [N, G], where that is not x.
        """
        return self._predictive(self.experts.check_inputs(x), self.gate_inputs(x, gate_x))

    def quantile(
        self, x: Inputs, probabilities: Float[Tensor, " Q"], *, gate_x: GateInputs | None = None
    ) -> Float[Tensor, "Q N P"]:
        """Return quantiles of new objects' y [Q, N, P], each output by itself, in x's dtype.

        A quantile is the least y with Σₖ πₖ P(Y ≤ y | k) at least the probability, to the last digit.

        Args:
            x: inputs [N, D].
            probabilities: [Q], above 0 and below 1.
            gate_x: what the gate reads [N, G], where that is not x.

        Raises:
            TypeError: if the experts' outputs have no order, as categories have none.
            ValueError: if a shape does not fit, or a probability is not in (0, 1).
        """
        wanted = arguments.tensor("probabilities", probabilities, ("Q",)).to(x)
        experts_x, gate_x = self.experts.check_inputs(x), self.gate_inputs(x, gate_x)
        predictive = self._predictive(experts_x.double(), gate_x.double())
        weights, components = predictive.mixture_distribution.probs, predictive.component_distribution
        return mixture_quantiles(weights, components, wanted, has_density=not self.experts.is_discrete).to(x.dtype)

    def log_prob(self, x: Inputs, y: Targets, *, gate_x: GateInputs | None = None) -> Float[Tensor, " N"]:
        """Return log p(yᵢ | xᵢ) of new objects [N] in nats under :meth:`predictive`, assignments summed out.

        Args:
            x: inputs [N, D].
            y: outputs [N, P] or [N].
            gate_x: what the gate reads [N, G], where that is not x.
        """
        x, y, gate_x = self.check_data(x, y, gate_x)
        # In float64: squares of a far row overflow float32.
        return rounded(self._predictive(x.double(), gate_x.double()).log_prob(y.double()), x.dtype)

    def _predictive(self, x: Inputs, gate_x: GateInputs) -> MixtureSameFamily:
        """Return the predictive distribution for checked inputs."""
        return MixtureSameFamily(self.gate.predictive_assignment(gate_x), self.experts.predictive(x))

    @pyro_method
    def model(
        self,
        x: Inputs,
        y: Targets | None = None,
        *,
        gate_x: GateInputs | None = None,
        objects: ObjectIndices | None = None,
    ) -> Tensor:
        """Sample parameters, assignments and, where it is not given, y [N, P]: the joint Pyro model. Return y.

        Args:
            x: inputs [N, D].
            y: outputs [N, P] or [N].
            gate_x: what the gate reads [N, G], where that is not x.
            objects: not read; for the guide.
        """
        experts_x, y = (self.experts.check_inputs(x), None) if y is None else self.experts.check_data(x, y)
        plate = objects_plate(x, site_name(self, OBJECTS_PLATE))
        parameters = self.experts.model(experts_x)
        assignment = self.gate.model(self.gate_inputs(x, gate_x), plate=plate)
        with plate:
            likelihood = self.experts.likelihood(experts_x, parameters, assignment)
            return pyro.sample(self.experts.site("y"), likelihood, obs=y)

    @pyro_method
    def guide(
        self,
        x: Inputs,
        y: Targets | None = None,
        *,
        gate_x: GateInputs | None = None,
        objects: ObjectIndices | None = None,
    ) -> None:
        """Sample parameters from their posteriors and, given y, assignments from q(z): the joint Pyro guide.

        TraceEnum_ELBO enumerates the assignments; it is then :meth:`bound`, without noise right after an update.
        Arguments are as for :meth:`assign`.
        """
        refuse_compiled(site_name(self, "gate"))
        with torch.no_grad():
            q = None if y is None else self.assign(x, y, gate_x=gate_x, objects=objects).responsibilities
        self.experts.guide(self.experts.check_inputs(x))
        plate = objects_plate(x, site_name(self, OBJECTS_PLATE))
        self.gate.guide_of_rows(self.gate_inputs(x, gate_x), (plate,), responsibilities=q, objects=objects)
