"""A mixture of experts: one gate, one bank of experts, and the bound that ties them together."""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import TypeVar

from mixpyro import arguments
from mixpyro.experts.base import Experts
from mixpyro.fitted_part import State
from mixpyro.gates.base import Gate
from mixpyro.groups import GroupIds
from mixpyro.mixture_predictions import PREDICTIONS, MixturePredictions
from mixpyro.mixture_program import MixtureProgram
from mixpyro.mixture_tables import output_names, take_tables
from mixpyro.numerics.far_rows import FAR, normalised_joint, rounded
from mixpyro.part import refuse_unread_overrides
from mixpyro.pyro_internals.subscripts import Subscriptable
from mixpyro.shapes import AnyTable, GateInputs, Inputs, ObjectIndices, Scalar, Targets, Value
from mixpyro.tables.given import column_names
from mixpyro.tables.representation import html_table

Class = TypeVar("Class", bound=type)
# The classes of a mixture's parts, for type checkers: MixtureOfExperts alone is one of any gate and experts.
GatePart = TypeVar("GatePart", bound=Gate, default=Gate, covariant=True)
ExpertsPart = TypeVar("ExpertsPart", bound=Experts, default=Experts, covariant=True)

GUARDED = functools.partial(
    arguments.guarded, predictions=("assign", "bound", *PREDICTIONS), others=("expected_log_joint", "model", "guide")
)


def _public(cls: Class) -> Class:
    """Let public methods of a class take tables, and run outside of the caller's contexts."""
    return take_tables(GUARDED(cls))


class Assignment(NamedTuple):
    """Assignments of N objects under the current posteriors: rows, or groups in the order of their first rows.

    Tensors, or a frame and a Series where rows were given as frames.
    """

    responsibilities: AnyTable  # q(z) [N, K], rows sum to one
    log_evidence: AnyTable  # logsumexp over k of E log π + E log p(y | k) [N], nats


class MixtureState(NamedTuple):
    """What a fit changes in a mixture. Every tensor has a leading axis of runs where there are several."""

    gate: State
    experts: State


@_public
class MixtureOfExperts(MixturePredictions, MixtureProgram, Generic[GatePart, ExpertsPart], metaclass=Subscriptable):
    """zᵢ ~ gate(xᵢ), yᵢ | zᵢ = k ~ expert k given xᵢ, as one Pyro model and guide with an exact lower bound.

    The gate and the experts become parts of the mixture: their sites are ``gate.…`` and ``experts.…`` from then on,
    with the mixture's name in front if it has one. :func:`mixpyro.fit` fits it. After a fit, ``gate_x`` must be given
    wherever rows are, or nowhere, as in the fit.

    Type checkers know the classes of the parts: write ``MixtureOfExperts[DirichletGate, LinearExperts]`` in annotations
    where they matter, and ``MixtureOfExperts`` where they do not.

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

    gate: GatePart
    experts: ExpertsPart

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401
        super().__init_subclass__(**options)
        _public(cls)
        refuse_unread_overrides(cls)

    @arguments.declared
    def __init__(self, gate: GatePart, experts: ExpertsPart, *, name: str = "") -> None:
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

    def extra_repr(self) -> str:
        """Return K and what the mixture was fitted to, for the text of the module."""
        return ", ".join(f"{name}: {value}" for name, value in self._description().items())

    def _description(self) -> dict[str, str]:
        """Return K and the columns of the last fit by name."""
        found, known = {"components": str(self.n_components)}, self.fitted_columns
        if known is None:
            return found | {"fitted": "no"}
        x, gate_x = column_names("x", known.layouts.x, known.x), known.gate_x
        found |= {"y": ", ".join(output_names(self, self.experts.n_outputs or 1)), "x": ", ".join(x) or "none"}
        return (
            found
            if gate_x is None
            else found | {"gate_x": ", ".join(column_names("gate_x", known.layouts.gate_x, gate_x))}
        )

    def _repr_html_(self) -> str:
        """Return the gate, the experts and what they were fitted to, for a notebook."""
        parts = {name: f"{type(part).__name__}({part.extra_repr()})" for name, part in self.named_children()}
        return html_table(type(self).__name__, self._description() | parts)

    def state(self) -> MixtureState:
        """Return a copy of what a fit changes in the gate and the experts."""
        return MixtureState(self.gate.state(), self.experts.state())

    @arguments.declared
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
        return self.gate.log_weights(gate_x, gate, objects=objects) + self.experts.log_likelihoods_of_objects(
            columns, experts
        )

    def expected_log_joint(
        self,
        x: Inputs | AnyTable,
        y: Targets | AnyTable,
        *,
        gate_x: GateInputs | AnyTable | None = None,
        objects: ObjectIndices | None = None,
        groups: GroupIds | None = None,
        missing: str | None = None,
    ) -> AnyTable:
        """Return E_q[log π] + E_q[log p(y | k)] [N, K] in nats, with its gradient; arguments as :meth:`assign`."""
        gate_x, columns, _ = self.objects_of(x, y, gate_x, groups, missing)
        objects = objects if arguments.in_transform() else arguments.object_indices(objects, n_rows=len(gate_x))
        found = self.log_joint(gate_x, columns, objects=objects)
        return arguments.are_numbers(found, axis=-1, with_gradient=True).mT

    def assign(
        self,
        x: Inputs | AnyTable,
        y: Targets | AnyTable,
        *,
        gate_x: GateInputs | AnyTable | None = None,
        objects: ObjectIndices | None = None,
        groups: GroupIds | None = None,
        missing: str | None = None,
    ) -> Assignment:
        """Return responsibilities and log evidences under the current posteriors: the variational E-step for z.

        Args:
            x: inputs [N, D].
            y: outputs [N, P] or [N].
            gate_x: what the gate reads [N, G], where that is not x.
            objects: which objects of the last update the rows are, for a gate that keeps a posterior of each: indices
                [N], or ``slice(None)`` for all in order. Rows are new objects by default.
            groups: an id of the group of each row [N], whose rows share one component. There is one result for each
                group then, in the order of their first rows: that of each row is ``Groups.of(groups).spread(…)``.
            missing: "ignore" where NaN in y is an output that was not observed, as for :func:`mixpyro.fit`; "error"
                where it is an error. By default what the last fit had. An object without any y is assigned by the gate
                alone, and its log evidence is 0.
        """
        gate_x, columns, seen = self.objects_of(x, y, gate_x, groups, missing)
        objects = objects if arguments.in_transform() else arguments.object_indices(objects, n_rows=len(gate_x))
        shares, log_evidence = normalised_joint(self.log_joint, gate_x, columns, objects=objects, far=FAR)
        if seen is not None:
            # Of what was not observed the density is one.
            log_evidence = torch.where(seen, log_evidence, 0.0)
        return Assignment(shares.mT, arguments.are_numbers(rounded(log_evidence, x.dtype), axis=-1))

    @torch.no_grad()
    def kl_divergence(self) -> Scalar:
        """Return KL(q‖p) of gate and experts together in nats, float64."""
        return self.gate.kl_divergence() + self.experts.kl_divergence()

    def bound(
        self,
        x: Inputs | AnyTable,
        y: Targets | AnyTable,
        *,
        gate_x: GateInputs | AnyTable | None = None,
        objects: ObjectIndices | None = None,
        groups: GroupIds | None = None,
        missing: str | None = None,
    ) -> Scalar:
        """Return the lower bound on log p(y | x) in nats, with every constant, at the best q(z); a float64 scalar.

        Σᵢ logsumexpₖ(E log πᵢₖ + E log p(yᵢ | k)) − KL(gate) − KL(experts); Bishop (2006), eq. 10.70 at the best q(z).

        Args:
            x: inputs [N, D].
            y: outputs [N, P] or [N].
            gate_x: as for :meth:`assign`.
            objects: as for :meth:`assign`.
            groups: as for :meth:`assign`.
            missing: as for :meth:`assign`.

        Raises:
            ValueError: if y is impossible in all components, or so far from them that its density is zero.
        """
        log_evidence = self.assign(x, y, gate_x=gate_x, objects=objects, groups=groups, missing=missing).log_evidence
        total = log_evidence.sum(dtype=torch.float64) - self.kl_divergence()
        return arguments.finite_bound(total, log_evidence)
