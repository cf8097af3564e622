"""A mixture of experts: one gate, one bank of experts, and the bound that ties them together."""

import math
from typing import NamedTuple

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import Categorical, MixtureSameFamily
from pyro.nn import PyroModule, pyro_method
from torch import Tensor

from mixpyro import arguments
from mixpyro.distributions.quantiles import mixture_quantiles
from mixpyro.experts.base import Experts
from mixpyro.gates.base import Gate
from mixpyro.pyro_internals.plates import objects_plate
from mixpyro.shapes import GateInputs, Inputs, ObjectIndices, Outputs, Responsibilities, Scalar, Targets


class Assignment(NamedTuple):
    """What the current posteriors say of N objects."""

    responsibilities: Tensor  # q(z) [N, K], rows sum to one
    log_evidence: Tensor  # logsumexp over k of E log π + E log p(y | k) [N], nats


def normalised(columns: Tensor) -> tuple[Tensor, Tensor]:
    """exp of log joints [..., K, N] over their sums over K, and the logarithms of these sums [..., N].

    Objects along whole cache lines, one exponential for both results; an object of −∞ is one of log 0, and of no r.
    """
    largest = columns.amax(-2, keepdim=True)
    largest = largest.masked_fill_(largest.isinf(), 0.0)
    # Numbers that underflow take ten times as long as others: what is that small is raised out of there, and then zero.
    least = math.log(torch.finfo(columns.dtype).tiny) + 1.0
    shares = (columns - largest).clamp_min_(least).exp_()
    shares = torch.threshold_(shares, 2.0 * math.exp(least), 0.0)
    total = shares.sum(-2, keepdim=True)
    # clamped, so that it divides the zeros of an impossible object too
    return shares.div_(total.clamp_min(torch.finfo(columns.dtype).tiny)), total.log().add_(largest).squeeze(-2)


class MixtureOfExperts(PyroModule):
    """zᵢ ~ gate(xᵢ), yᵢ | zᵢ = k ~ expert k given xᵢ, as one Pyro model and guide with an exact lower bound.

    The gate and the experts become parts of the mixture: their sites are ``gate.…`` and ``experts.…`` from then on,
    with the mixture's name in front if it has one. :func:`mixpyro.fit` fits it.

    Args:
        gate: a gate of K components.
        experts: a bank of K experts.
        name: prefix of every Pyro site, needed only where two mixtures stand in one program.

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

    def check_data(self, x: object, y: object, gate_x: object = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return x [N, D], y [N, P] and the gate's inputs, x without any of their own, if they fit and are finite.

        Raises:
            TypeError: if one is not a floating tensor.
            ValueError: if a shape does not fit, a value is not finite, or the device is another one.
        """
        checked_x, checked_y = self.experts.check_data(x, y)
        checked_gate_x = self._gate_inputs(arguments.inputs(x), gate_x)
        for state in (*self.parameters(), *self.buffers()):
            for name, value in (("x", checked_x), ("y", checked_y), ("gate_x", checked_gate_x)):
                arguments.same_device(name, value, state.device)
        return checked_x, checked_y, checked_gate_x

    def expected_log_joint(
        self, x: Inputs, y: Targets, *, gate_x: GateInputs | None = None, objects: ObjectIndices | None = None
    ) -> Responsibilities:
        """E_q[log π] + E_q[log p(y | k)] [N, K] in nats; arguments as :meth:`assign`."""
        log_weights = self.gate.expected_log_weights(x if gate_x is None else gate_x, objects=objects)
        return log_weights + self.experts.expected_log_likelihood(x, y)

    @torch.no_grad()
    def assign(
        self, x: Inputs, y: Targets, *, gate_x: GateInputs | None = None, objects: ObjectIndices | None = None
    ) -> Assignment:
        """The variational E-step for z: responsibilities and log evidence under the current posteriors, for any rows.

        Args:
            x: [N, D].
            y: [N, P] or [N].
            gate_x: what the gate sees [N, G], where that is not x.
            objects: which objects of the last update the rows are, for a gate that keeps a posterior an object.
        """
        x, y, gate_x = self.check_data(x, y, gate_x)
        return self.assign_checked(x, y, gate_x=gate_x, objects=objects)

    @torch.no_grad()
    def assign_checked(
        self, x: Inputs, y: Outputs, *, gate_x: GateInputs, objects: ObjectIndices | None = None
    ) -> Assignment:
        """What :meth:`assign` says of rows that :meth:`check_data` has returned, without looking at them again."""
        log_joint = self.expected_log_joint(x, y, gate_x=gate_x, objects=objects)
        shares, log_evidence = normalised(log_joint.mT.contiguous())
        return Assignment(shares.mT, log_evidence)

    @torch.no_grad()
    def kl_divergence(self) -> Scalar:
        """KL(q‖p) of gate and experts together in nats, float64."""
        return self.gate.kl_divergence() + self.experts.kl_divergence()

    def bound(self, x: Inputs, y: Targets, *, gate_x: GateInputs | None = None) -> Scalar:
        """Lower bound on log p(y | x) in nats, with every constant, at the best q(z); a float64 scalar.

        Σᵢ logsumexpₖ(E log πᵢₖ + E log p(yᵢ | k)) − KL(gate) − KL(experts); Bishop (2006), eq. 10.70 at the best q(z).
        """
        return self.assign(x, y, gate_x=gate_x).log_evidence.sum(dtype=torch.float64) - self.kl_divergence()

    @torch.no_grad()
    def predict(self, x: Inputs, *, gate_x: GateInputs | None = None) -> Outputs:
        """Predictive mean of new objects' y [N, P]: the experts' means, weighted by the gate.

        Raises:
            TypeError: if x is no floating tensor.
            ValueError: if its shape does not fit, or a value is not finite.
        """
        experts_x = self.experts.check_inputs(x)
        weights = self.gate.unseen_weights(self._gate_inputs(x, gate_x))
        return torch.einsum("nk,nkp->np", weights, self.experts.predict(experts_x))

    @torch.no_grad()
    def predictive(self, x: Inputs, *, gate_x: GateInputs | None = None) -> MixtureSameFamily:
        """Predictive distribution of new objects' y, batch shape [N] and event shape [P], to sample and to score.

        The experts' predictive distributions, mixed by the gate's weights of new objects.
        """
        experts_x = self.experts.check_inputs(x)
        weights = self.gate.unseen_weights(self._gate_inputs(x, gate_x))
        return MixtureSameFamily(Categorical(probs=weights), self.experts.predictive(experts_x))

    @torch.no_grad()
    def quantile(
        self, x: Inputs, probabilities: Float[Tensor, " Q"], *, gate_x: GateInputs | None = None
    ) -> Float[Tensor, "Q N P"]:
        """Quantiles of new objects' y [Q, N, P], each output by itself, under :meth:`predictive`, in x's dtype.

        The least y with Σₖ πₖ P(Y ≤ y | k) at least the probability, to the last digit.

        Args:
            x: [N, D].
            probabilities: [Q], above 0 and below 1.
            gate_x: what the gate sees [N, G], where that is not x.

        Raises:
            TypeError: if the experts' outputs have no order, as categories have none.
            ValueError: if a shape does not fit, or a probability is not in (0, 1).
        """
        wanted = arguments.tensor("probabilities", probabilities, ("Q",)).to(x)
        if not bool(((wanted > 0) & (wanted < 1)).all()):
            raise ValueError(f"`probabilities` must be above 0 and below 1; got {wanted.tolist()}.")
        weights = self.gate.unseen_weights(self._gate_inputs(x, gate_x))
        return mixture_quantiles(weights, self.experts.predictive(self.experts.check_inputs(x)), wanted).to(x.dtype)

    def log_prob(self, x: Inputs, y: Targets, *, gate_x: GateInputs | None = None) -> Float[Tensor, " N"]:
        """log p(yᵢ | xᵢ) of new objects [N] in nats, assignments summed out, under :meth:`predictive`."""
        x, y, gate_x = self.check_data(x, y, gate_x)
        return self.predictive(x, gate_x=gate_x).log_prob(y)

    @pyro_method
    def model(self, x: Inputs, y: Targets | None = None, *, gate_x: GateInputs | None = None) -> Tensor:
        """Joint Pyro model of parameters, assignments and y [N, P]; y is sampled where it is None."""
        experts_x, y = (self.experts.check_inputs(x), None) if y is None else self.experts.check_data(x, y)
        plate = objects_plate(x)
        parameters = self.experts.model(experts_x)
        assignment = self.gate.model(self._gate_inputs(x, gate_x), plate=plate)
        with plate:
            likelihood = self.experts.likelihood(experts_x, parameters, assignment)
            return pyro.sample(self.experts.site("y"), likelihood, obs=y)

    @pyro_method
    def guide(self, x: Inputs, y: Targets | None = None, *, gate_x: GateInputs | None = None) -> None:
        """Joint Pyro guide: the posteriors and, where y is given, q(z) to be enumerated by TraceEnum_ELBO.

        Its ELBO is :meth:`bound`, without noise right after an update with the responsibilities of :meth:`assign`.
        """
        responsibilities = None if y is None else self.assign(x, y, gate_x=gate_x).responsibilities
        self.experts.guide(self.experts.check_inputs(x))
        self.gate.guide(self._gate_inputs(x, gate_x), responsibilities=responsibilities)

    def _gate_inputs(self, x: Tensor, gate_x: object) -> Tensor:
        """The gate's own inputs if they fit x, else x."""
        n_features = getattr(self.gate, "n_features", "D")
        if gate_x is None and n_features not in ("D", x.shape[1]):
            raise ValueError(f"`gate_x` must have {n_features} columns; got none, and `x` has {x.shape[1]}.")
        if gate_x is None:
            return x
        checked = arguments.inputs(gate_x, name="gate_x", n_features=n_features)
        if len(checked) != len(x) or checked.dtype != x.dtype:
            wanted, got = f"{len(x)} rows of {x.dtype}", f"{len(checked)} rows of {checked.dtype}"
            raise ValueError(f"`gate_x` must have the rows and dtype of `x`, {wanted}; got {got}.")
        return checked
