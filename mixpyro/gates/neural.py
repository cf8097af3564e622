"""A gate that reads the inputs: a Categorical whose probabilities a neural network computes."""

from typing import NamedTuple

import pyro
from pyro.distributions import Categorical
from torch import nn

from mixpyro import arguments
from mixpyro.gates.base import Gate
from mixpyro.pyro_internals.networks import evaluate, network_of, trainable_parameters
from mixpyro.pyro_internals.parameter_store import minus_log_normal_prior
from mixpyro.shapes import Inputs, ObjectIndices, Responsibilities, Scalar


class NeuralStatistics(NamedTuple):
    """Nothing: the network is fitted by gradient, from the rows themselves."""


class NeuralGate(Gate):
    """zᵢ ~ Categorical(softmax(f(xᵢ))), f any ``torch.nn.Module``; the M-step is SVI on −Σᵢₖ rᵢₖ log πₖ(xᵢ).

    With a linear f this is multinomial logistic regression. Where the responsibilities can be separated, its weights
    grow without end; ``prior_scale`` holds them. x should be of unit order, as for any network. The module is used as
    it is, neither copied nor moved: its parameters are the gate's, its training mode is the caller's business.

    Args:
        n_components: K.
        network: takes x [N, D] in the dtype of its parameters, gives logits [N, K].
        prior_scale: s of a Normal(0, s²) prior on every trainable parameter, which makes the M-step a MAP estimate and
            adds the prior's log density to the bound; None for maximum likelihood.
        name: prefix of the Pyro site ``<name>.assignment`` and of the network's parameters ``<name>.network``.

    References:
        Jordan, Jacobs (1994), Hierarchical mixtures of experts and the EM algorithm, section 3.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> gate = NeuralGate(3, nn.Linear(2, 3))
        >>> gate.weights(torch.zeros(4, 2)).shape
        torch.Size([4, 3])
    """

    def __init__(
        self, n_components: int, network: nn.Module, *, prior_scale: float | None = None, name: str = "gate"
    ) -> None:
        super().__init__(n_components, name=name)
        if not isinstance(network, nn.Module):
            raise TypeError(f"`network` must be a torch.nn.Module; got {type(network).__name__}.")
        self.network = network
        self.prior_scale = None if prior_scale is None else arguments.positive_number("prior_scale", prior_scale)

    def logits(self, x: Inputs) -> Responsibilities:
        """f(x) [N, K], in the network's dtype."""
        (logits,) = evaluate(self, x)
        if logits.shape != (len(x), self.n_components):
            wanted, got = [len(x), self.n_components], list(logits.shape)
            raise ValueError(f"`network` must return logits of shape {wanted} for x {list(x.shape)}; got {got}.")
        return logits

    def expected_log_weights(self, x: Inputs, *, objects: ObjectIndices | None = None) -> Responsibilities:
        """log softmax f(x) [N, K], with its gradient."""
        return self.logits(x).log_softmax(-1).to(x.dtype)

    def weights(self, x: Inputs, *, objects: ObjectIndices | None = None) -> Responsibilities:
        """Softmax f(x) [N, K], with its gradient."""
        return self.logits(x).softmax(-1).to(x.dtype)

    @property
    def n_parameters(self) -> int:
        """Trainable parameters of the network."""
        return sum(parameter.numel() for parameter in trainable_parameters(network_of(self)))

    def statistics(self, x: Inputs, responsibilities: Responsibilities) -> NeuralStatistics:
        """Nothing, after the checks of :meth:`Gate.statistics`."""
        arguments.responsibilities(responsibilities, self.n_components, len(x))
        return NeuralStatistics()

    def update(self, statistics: NeuralStatistics, step_size: float = 1.0) -> None:
        """Nothing: the gate has no latent variable. Its M-step is by gradient (``mixpyro.fitting.gradient.m_step``)."""

    def kl_divergence(self) -> Scalar:
        """−log p(θ) of the network's parameters under their prior, zero without one; a float64 scalar."""
        return minus_log_normal_prior(trainable_parameters(network_of(self)), self.prior_scale)

    def partial_bound(self, x: Inputs, responsibilities: Responsibilities) -> Scalar:
        """Σ r log π, plus the log density of the prior on the parameters where there is one, in nats."""
        fit = (responsibilities * self.expected_log_weights(x)).sum()
        # To take off a zero in float64 costs, with its gradient, as much as a layer of a small network.
        return fit if self.prior_scale is None else fit - self.kl_divergence()

    def assignment_prior(self, x: Inputs, *, plate: pyro.plate) -> Categorical:
        """Categorical(softmax f(x)); a prior on the parameters is scored as ``<name>.network_log_prior``."""
        if self.prior_scale is not None:
            pyro.factor(self.site("network_log_prior"), -self.kl_divergence().to(x.dtype))
        return Categorical(logits=self.logits(x).to(x.dtype))
