"""Predictions of a mixture of experts for new objects."""

import functools

import torch
from jaxtyping import Float
from pyro.distributions import Categorical, MixtureSameFamily
from torch import Tensor

from mixpyro import arguments
from mixpyro.distributions.checked_values import MixtureOfOutputs
from mixpyro.distributions.mixture_quantiles import mixture_quantiles
from mixpyro.groups import GroupIds
from mixpyro.missing import rows_with_outputs
from mixpyro.mixture_rows import MixtureRows
from mixpyro.mixture_tables import take_tables
from mixpyro.numerics.blocks import rows_per_e_step, slices
from mixpyro.numerics.far_rows import rounded
from mixpyro.numerics.precision import in_range
from mixpyro.shapes import AnyTable, GateInputs, Inputs, Responsibilities, Targets

PREDICTIONS = ("predict", "predictive", "quantile", "log_prob", "log_joint_predictive", "log_joint_or_nan")


@take_tables
@functools.partial(arguments.guarded, predictions=PREDICTIONS, others=())
class MixturePredictions(MixtureRows):
    """Means, quantiles and densities of new objects' y, assignments summed out."""

    def predict(
        self,
        x: Inputs | AnyTable,
        *,
        gate_x: GateInputs | AnyTable | None = None,
        responsibilities: Responsibilities | AnyTable | None = None,
    ) -> AnyTable:
        """Return the predictive mean of new objects' y [N, P]: the experts' means, weighted by the gate.

        A mean beyond the range of the dtype, as of counts far outside the data, is the largest number that it has.

        Args:
            x: inputs [N, D].
            gate_x: what the gate reads [N, G], where that is not x.
            responsibilities: q(z) [N, K] to weigh by instead of the gate, as of groups with rows that have been
                assigned: ``groups.spread(assignment.responsibilities)``.

        Raises:
            TypeError: if an argument is no table of numbers.
            ValueError: if a shape or value does not fit, or a mean is NaN, as where sums overflow and cancel.
        """
        experts_x, gate_x = self.experts.check_inputs(x), self.gate_inputs(x, gate_x)
        # In float64: of a far row the terms are large, and may cancel.
        weights = self._weights(gate_x.double(), responsibilities).unsqueeze(-1)
        terms = weights * self.experts.predict(experts_x.double())
        # Where a component has no weight its mean may be infinite: 0 · ∞ counts as 0.
        return arguments.are_means(in_range(terms.masked_fill(weights == 0, 0.0).sum(1), x.dtype))

    def predictive(
        self,
        x: Inputs | AnyTable,
        *,
        gate_x: GateInputs | AnyTable | None = None,
        responsibilities: Responsibilities | AnyTable | None = None,
    ) -> MixtureSameFamily:
        """Return the predictive distribution of new objects' y, batch shape [N] and event shape [P].

        Args:
            x: inputs [N, D].
            gate_x: what the gate reads [N, G], where that is not x.
            responsibilities: as for :meth:`predict`.
        """
        return self._predictive(self.experts.check_inputs(x), self.gate_inputs(x, gate_x), responsibilities)

    def quantile(
        self,
        x: Inputs | AnyTable,
        probabilities: Float[Tensor, " Q"] | AnyTable,
        *,
        gate_x: GateInputs | AnyTable | None = None,
        responsibilities: Responsibilities | AnyTable | None = None,
    ) -> AnyTable:
        """Return quantiles of new objects' y [Q, N, P], each output by itself, in x's dtype.

        A quantile is the least y with Σₖ πₖ P(Y ≤ y | k) at least the probability. It is right to 14 digits, and
        where the distribution jumps to the last one.

        Args:
            x: inputs [N, D].
            probabilities: [Q], above 0 and below 1.
            gate_x: what the gate reads [N, G], where that is not x.
            responsibilities: as for :meth:`predict`.

        Raises:
            TypeError: if the experts' outputs have no order, as categories have none.
            ValueError: if a shape does not fit, or a probability is not in (0, 1).
        """
        wanted = arguments.tensor("probabilities", probabilities, ("Q",)).to(x)
        experts_x, gate_x = self.experts.check_inputs(x), self.gate_inputs(x, gate_x)
        given = None if responsibilities is None else self._weights(gate_x, responsibilities)
        width = self.n_components * self.experts.n_outputs
        found = []
        # Of a block of rows at a time: parameters of all rows may take more memory than the rows themselves.
        for block in list(slices(len(x), rows_per_e_step(width, experts_x.device))) or [slice(0, 0)]:
            of_block = self._predictive(
                experts_x[block].double(), gate_x[block].double(), None if given is None else given[block]
            )
            weights, components = of_block.mixture_distribution.probs, of_block.component_distribution
            found.append(mixture_quantiles(weights, components, wanted, has_density=not self.experts.is_discrete))
        return torch.cat(found, dim=1).to(x.dtype)

    def log_prob(
        self,
        x: Inputs | AnyTable,
        y: Targets | AnyTable,
        *,
        gate_x: GateInputs | AnyTable | None = None,
        groups: GroupIds | None = None,
        missing: str | None = None,
    ) -> AnyTable:
        """Return log p(yᵢ | xᵢ) of new objects [N] in nats under :meth:`predictive`, assignments summed out.

        Of a group it is log Σₖ πₖ Πᵢ p(yᵢ | xᵢ, k), its rows taken as independent given the component. That is exact
        where parameters are estimated; of a posterior, each row has its uncertainty anew.

        Args:
            x: inputs [N, D].
            y: outputs [N, P] or [N].
            gate_x: what the gate reads [N, G], where that is not x.
            groups: as for :meth:`assign`.
            missing: as for :meth:`assign`; what was not observed is integrated out.
        """
        # In float64: squares of a far row overflow float32.
        joint = self.log_joint_predictive(x, y, gate_x=gate_x, groups=groups, missing=missing)
        return rounded(joint.logsumexp(-2), x.dtype)

    def log_joint_predictive(
        self,
        x: Inputs | AnyTable,
        y: Targets | AnyTable,
        *,
        gate_x: GateInputs | AnyTable | None = None,
        groups: GroupIds | None = None,
        missing: str | None = None,
    ) -> Float[Tensor, "K objects"]:
        """Return log πᵢₖ + log p(yᵢ | xᵢ, k) of new objects [K, N] in nats, float64; arguments as :meth:`log_prob`."""
        joint = self.log_joint_or_nan(x, y, gate_x=gate_x, groups=groups, missing=missing)
        return arguments.are_numbers(joint, axis=-1)

    def log_joint_or_nan(
        self,
        x: Inputs,
        y: Targets,
        *,
        gate_x: GateInputs | None = None,
        groups: GroupIds | None = None,
        missing: str | None = None,
    ) -> Float[Tensor, "K objects"]:
        """Return :meth:`log_joint_predictive` of tensors, with NaN where a density is none, for a report to say so."""
        ignores = self.takes_missing(missing)
        x, y, gate_x = (tensor.double() for tensor in self.check_data(x, y, gate_x, missing=ignores))
        grouped = self.checked_groups(groups, x)
        segments = None
        if grouped is not None:
            x, y, segments = grouped.sorted(x), grouped.sorted(y), grouped.segments
            gate_x = self.gate.inputs_of_groups(gate_x, grouped)
        if ignores:
            x, y, segments, _ = rows_with_outputs(x, y, segments)
        log_weights = self.gate.predictive_assignment(gate_x).logits.log_softmax(-1)
        return log_weights.mT + self.experts.log_prob_of_objects(x, y, segments)

    def _predictive(
        self, x: Inputs, gate_x: GateInputs, responsibilities: Responsibilities | None = None
    ) -> MixtureSameFamily:
        """Return the predictive distribution for checked inputs."""
        assignment = self.gate.predictive_assignment(gate_x)
        if responsibilities is not None:
            assignment = Categorical(probs=self._weights(gate_x, responsibilities))
        return MixtureOfOutputs(assignment, self.experts.predictive(x))

    def _weights(self, gate_x: GateInputs, responsibilities: Responsibilities | None) -> Responsibilities:
        """Return the gate's weights [N, K], or the given ones."""
        if responsibilities is None:
            return self.gate.weights(gate_x)
        given = arguments.responsibilities(responsibilities, self.gate.n_components, len(gate_x)).to(gate_x)
        total = given.sum(-1, keepdim=True)
        if bool((total <= 0.0).any()):
            raise ValueError("`responsibilities` must have a positive sum in every row; got a row of zeros.")
        return given / total
