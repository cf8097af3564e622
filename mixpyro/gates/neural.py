"""A gate that reads the inputs: a Categorical whose probabilities a neural network computes."""

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from mixpyro import arguments
from mixpyro.gates.logits import LogitGate, separated_components
from mixpyro.numerics.linear_predictors import LinearPredictors
from mixpyro.numerics.soft_labels import SoftLabels
from mixpyro.pyro_internals.networks import NetworkOutput, evaluate, last_layers, network_of, trainable_parameters
from mixpyro.shapes import Inputs, Responsibilities


class NeuralGate(LogitGate):
    """zᵢ ~ Categorical(softmax(f(xᵢ))), f any ``torch.nn.Module``; the M-step is SVI on −Σᵢₖ rᵢₖ log πₖ(xᵢ).

    With a linear f this is multinomial logistic regression. Where the responsibilities can be separated, its weights
    grow without end; ``prior_scale`` bounds them. x should be of unit order, as for any network. The module is used as
    it is, neither copied nor moved: its parameters are the gate's, and the caller sets its training mode. Frozen
    parameters stay frozen, in a Pyro program too. A Bayesian network (PyroSample weights) works in ``model`` with a
    guide for its weights, and is refused where an output is needed outside of a program.

    Args:
        n_components: K.
        network: takes x [N, D] in the dtype of its parameters, gives logits [N, K].
        prior_scale: s of a Normal(0, s²) prior on every trainable parameter, which makes the M-step a MAP estimate and
            adds the prior's log density to the bound; None for maximum likelihood.
        name: prefix of the Pyro site ``<name>.assignment`` and of the network's parameters ``<name>.network``.

    References:
        Jordan, Jacobs (1994), Hierarchical mixtures of experts and the EM algorithm, section 3.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> gate = NeuralGate(3, nn.Linear(2, 3))
        >>> gate.weights(torch.zeros(4, 2)).shape
        torch.Size([4, 3])
    """

    log_prior_site: ClassVar[str] = "network_log_prior"

    def __init__(
        self, n_components: int, network: nn.Module, *, prior_scale: float | None = None, name: str = "gate"
    ) -> None:
        super().__init__(n_components, name=name)
        if not isinstance(network, nn.Module):
            raise TypeError(f"`network` must be a torch.nn.Module; got {type(network).__name__}.")
        arguments.make_normal(network)
        self.network = network
        self.prior_scale = None if prior_scale is None else arguments.positive_number("prior_scale", prior_scale)

    def logits(self, x: Inputs) -> Responsibilities:
        """Return f(x) [N, K], in the network's dtype, with its gradient.

        Args:
            x: gate inputs [N, D].

        Raises:
            TypeError: if the network returns something else than a tensor of floats.
            ValueError: if the network fails for x, or returns another shape.
        """
        (logits,) = evaluate(self, x, NetworkOutput("logits", ((len(x), self.n_components),)))
        return logits

    @torch.no_grad()
    def separations(self, x: Inputs, responsibilities: Responsibilities) -> list[str]:
        """Return whether a component is empty, or the likelihood is flat in the coefficients of the last layer.

        Args:
            x: gate inputs [N, D].
            responsibilities: [N, K].

        Returns:
            Messages, none for a gate with a prior on its parameters.
        """
        if self.prior_scale is not None or self.n_components == 1:
            return []
        labels = SoftLabels(responsibilities.double())
        found = []
        for hidden, coefficients in last_layers(self, x):
            functions = LinearPredictors(hidden, labels, n_predictors=self.n_components - 1)
            against_first = (coefficients[1:] - coefficients[:1]).unsqueeze(0)
            point = functions.standardised_coefficients(against_first)
            found += separated_components(functions, point, responsibilities)
        return found

    def parameters_under_prior(self) -> Iterable[Tensor]:
        """Return the trainable parameters of the network."""
        return trainable_parameters(network_of(self))
