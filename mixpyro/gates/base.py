"""What every gate is: a prior over which component each object belongs to."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from pyro.distributions import Categorical
from torch import Tensor

from mixpyro import arguments
from mixpyro.fitted_part import State
from mixpyro.gates.program import GateProgram
from mixpyro.groups import Groups
from mixpyro.pyro_internals.expected_weights import BoundTerms, GateRecord
from mixpyro.shapes import GateInputs, Inputs, ObjectIndices, Responsibilities, Scalar, Weights


class Gate(GateProgram):
    """Prior over the assignments z of N objects to K components, as a Pyro model and guide.

    A new gate is a :class:`~mixpyro.gates.logits.LogitGate` if a function of x gives its logits, and a
    :class:`~mixpyro.gates.conjugate.ConjugateGate` if its weights have an analytic posterior.

    Args:
        n_components: K, at least one.
        name: prefix of the Pyro sites, as in ``gate.assignment``. A gate that is an attribute of a PyroModule takes the
            name of that attribute instead.
    """

    # Whether the weights depend on the inputs.
    reads_inputs: ClassVar[bool] = True
    # Whether a row of weight three is three rows to the gate.
    takes_row_weights: ClassVar[bool] = True
    # Whether a fit finds how many components there are: it merges, deletes and splits some while the bound rises.
    finds_components: ClassVar[bool] = False
    # Whether the bound is that by quadrature, of a gate that has a faster one too; None of any other.
    quadrature: bool | None = None

    @property
    def has_free_weights(self) -> bool:
        """Whether weights vary, as that of a single component does not."""
        return bool(self.n_components > 1)

    def check_inputs(self, gate_x: object, x: Tensor) -> Tensor:
        """Return the gate's own inputs if they fit x, else x.

        Args:
            gate_x: what the gate reads [N, G]; None for x.
            x: inputs of the mixture [N, D], checked.

        Raises:
            TypeError: if ``gate_x`` is no floating tensor.
            ValueError: if its shape or dtype does not fit, or a value is not finite.
        """
        n_features = getattr(self, "n_features", "D")
        if gate_x is None and n_features not in ("D", x.shape[1]):
            raise ValueError(f"`gate_x` must have {n_features} columns; got none, and `x` has {x.shape[1]}.")
        if gate_x is None:
            return x
        checked = arguments.inputs(gate_x, name="gate_x", n_features=n_features)
        if len(checked) != len(x) or checked.dtype != x.dtype:
            wanted, got = f"{len(x)} rows of {x.dtype}", f"{len(checked)} rows of {checked.dtype}"
            raise ValueError(f"`gate_x` must have the rows and dtype of `x`, {wanted}; got {got}.")
        return checked

    def centre(self, x: GateInputs) -> None:
        """Take from the inputs in which columns a fit shall compute; nothing by default.

        Args:
            x: gate inputs [N, G].
        """

    def inputs_of_groups(self, gate_x: GateInputs, groups: Groups) -> Float[Tensor, "groups G"]:
        """Return what the gate reads of each group [groups, G], which all of its rows must have.

        Args:
            gate_x: of the rows [N, G].
            groups: of the rows.

        Raises:
            ValueError: if the gate reads inputs that differ within a group.
        """
        if not self.reads_inputs:
            return gate_x[groups.first_rows]
        try:
            return groups.shared("gate_x", gate_x)
        except ValueError as error:
            raise ValueError(
                f"{error} {type(self).__name__} weighs a whole group: give it columns that all rows of a group have, "
                "as `gate_x` [N, G]."
            ) from None

    def with_components(self, kept: Sequence[int]) -> "Gate":
        """Return a new gate of some of the components, with their posterior.

        Args:
            kept: their numbers, in the order wanted.

        Raises:
            ValueError: if the prior of the rest depends on how many components there are.
        """
        raise ValueError(
            f"`gate` must be a StickBreakingGate, whose prior does not depend on K; got {type(self).__name__}. Fit a "
            f"mixture of {len(kept)} components instead."
        )

    def derived(self, sites: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what follows from draws of the latent sites and belongs into a table of them; nothing by default.

        Args:
            sites: draws [S, …] by the full name of the site.
        """
        return {}

    def expected_log_weights(self, x: Inputs, *, objects: ObjectIndices | None = None) -> Weights:
        """Return E_q[log π] in x's dtype, [N, K], or [1, K] where all objects share it.

        Args:
            x: gate inputs [N, D]. A gate without inputs reads N, dtype and device off them.
            objects: which objects of the last update the rows are, for a gate that keeps a posterior of each:
                indices [N], or ``slice(None)`` for all in order. Rows are new objects by default.
        """
        raise NotImplementedError

    def weights(self, x: Inputs, *, objects: ObjectIndices | None = None) -> Responsibilities:
        """Return E_q[π] [N, K] in x's dtype, the predictive weights.

        Args:
            x: gate inputs [N, D].
            objects: as for :meth:`expected_log_weights`.
        """
        raise NotImplementedError

    def predictive_assignment(self, x: Inputs) -> Categorical:
        """Return the predictive distribution of new objects' components, batch shape [N].

        Args:
            x: gate inputs [N, D].
        """
        return categorical(self.weights(x))

    def log_weights(self, x: Inputs, state: State | None = None, *, objects: ObjectIndices | None = None) -> Tensor:
        """Return E_q[log π] of R runs, [R, K, N] or [R, K, 1]; without a state [K, N] or [K, 1] of this gate's own.

        Args:
            x: gate inputs [N, D].
            state: of R runs; by default the gate's own, with its gradient.
            objects: as for :meth:`expected_log_weights`.
        """
        if state is None:
            return self.expected_log_weights(x, objects=objects).mT
        return torch.stack(
            self.in_each_run(state, lambda _: self.expected_log_weights(x, objects=objects).mT),
        )

    def sums(
        self, x: Inputs, responsibilities: Float[Tensor, "R K N"], state: State | None = None
    ) -> tuple[Tensor, ...]:
        """Return the statistics of R runs, sums over the rows; an empty tuple for a gate without.

        Args:
            x: gate inputs [N, D].
            responsibilities: [R, K, N].
            state: of R runs, for statistics that depend on it; the gate's own by default.
        """
        return ()

    def degeneracies(self, x: Inputs, responsibilities: Responsibilities) -> list[str]:
        """Return where the likelihood is unbounded, in words: such a run is not chosen. Nothing by default.

        Args:
            x: gate inputs [N, D].
            responsibilities: [N, K].
        """
        return []

    def separations(self, x: Inputs, responsibilities: Responsibilities) -> list[str]:
        """Return where the likelihood is bounded but has its maximum at infinity, in words, for a warning.

        The fit is sound, and its weights have a limit. The coefficients have none, nor standard errors. Nothing by
        default.

        Args:
            x: gate inputs [N, D].
            responsibilities: [N, K].
        """
        return []

    def prior_warnings(self, x: Inputs, responsibilities: Responsibilities) -> list[str]:
        """Return where the prior says more than the data do, in words; nothing by default.

        Args:
            x: gate inputs [N, D].
            responsibilities: [N, K].
        """
        return []

    def partial_bound(self, x: Inputs, responsibilities: Responsibilities) -> Scalar:  # type: ignore[override]
        """Return the gate's share of the bound in nats, Σ r E_q[log π] − KL(q‖p), for the objects of the last update.

        Args:
            x: gate inputs [N, D].
            responsibilities: [N, K].
        """
        expected = self.expected_log_weights(x, objects=slice(None))
        return (responsibilities * expected).sum() - self.kl_divergence()

    def update_seen(self, record: GateRecord, step_size: float) -> None:
        """Go part of the way to the optimum given what a program has said; nothing for a gate without a posterior.

        Args:
            record: of the program, after the bound has been differentiated.
            step_size: in (0, 1].
        """

    def initialise(self) -> None:
        """Leave a prior that would decide where a fit ends; nothing by default."""

    def bound_terms(self, x: Inputs, *, objects: Tensor, n_objects: int) -> BoundTerms:
        """Return E_q[log π] of some of N objects, and KL(q‖p): of all, or [B] where each object has its own.

        Args:
            x: gate inputs [B, D].
            objects: which of the N objects the rows are [B].
            n_objects: N.
        """
        return BoundTerms(self.expected_log_weights(x), self.kl_divergence())


def categorical(weights: Tensor) -> Categorical:
    """Return a Categorical over weights by their logarithms, for Categorical(probs) raises tiny weights.

    Args:
        weights: [..., K], non-negative.
    """
    return categorical_of_rows(weights.clamp_min(torch.finfo(weights.dtype).tiny).log())


def categorical_of_rows(logits: Tensor) -> Categorical:
    """Return a Categorical over the components of each row.

    Args:
        logits: [N, K], computed from x.

    Raises:
        ValueError: if one is NaN, while Pyro's validation is on.
    """
    try:
        # The validation of a distribution of no rows fails.
        return Categorical(logits=logits, validate_args=None if logits.numel() else False)
    except ValueError as error:
        bad = int(logits.isnan().any(-1).sum())
        raise ValueError(
            f"`x` must give log weights that are numbers; got NaN in {bad} of {logits[..., 0].numel()} rows. x must be "
            "finite, and so must the parameters of the gate."
        ) from error
