"""The hyper model whose weights a neural network computes; see :mod:`mixpyro.hyper_models`."""

import torch
from torch import Tensor, nn

from mixpyro import arguments
from mixpyro.arguments.signals import undone_if_it_raises
from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.gates import NeuralGate
from mixpyro.hyper_models.base import HyperModel, checked_device, checked_responsibilities
from mixpyro.numerics.precision import at_least


class HyperExpertNN(HyperModel, nn.Module):
    """Weights that a network of three layers computes from X: :class:`mixpyro.NeuralGate`.

    Args:
        input_dim: D, the number of features.
        hidden_dim: width of the two hidden layers.
        output_dim: K, the number of local models.
        epochs: passes over the data in an M-step, at least zero.
        device: ``'cpu'``, ``'cuda'``, ``'cuda:1'``, a torch.device, or ``'gpu'`` for ``'cuda'``.

    Attributes:
        input_dim: D.
        output_dim: K.
        epochs: as given.
        device: as given, ``'cuda'`` for ``'gpu'``.
        optimizer: the torch optimiser of :meth:`M_step`, which may be assigned.

    Raises:
        ValueError: if an argument has a value that it cannot have.
        RuntimeError: if the device is not present.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> hyper_model = HyperExpertNN(input_dim=2, output_dim=3)
        >>> hyper_model.PredictPi(torch.zeros(4, 2), {}).shape
        torch.Size([4, 3])
    """

    batch_size = 128
    gate: NeuralGate
    _m_step: MStep

    @arguments.outside_contexts
    def __init__(
        self,
        input_dim: int = 20,
        hidden_dim: int = 10,
        output_dim: int = 10,
        epochs: int = 100,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        self.input_dim = arguments.size("input_dim", input_dim)
        self.output_dim = arguments.size("output_dim", output_dim)
        self.epochs = arguments.integer("epochs", epochs, least=0)
        hidden_dim = arguments.size("hidden_dim", hidden_dim)
        self.device = checked_device(device)
        self.linear1 = nn.Linear(input_dim, hidden_dim, device="cpu")
        self.linear2 = nn.Linear(hidden_dim, hidden_dim, device="cpu")
        self.linear3 = nn.Linear(hidden_dim, output_dim, device="cpu")
        self.to(self.device)
        # The gate's network is this module. Set as attributes, the gate would become a submodule of its own network.
        gate = NeuralGate(output_dim, self)
        self.__dict__.update(gate=gate, _m_step=MStep(gate))

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The torch optimiser of :meth:`M_step`: Adam of default settings over the three layers, fused if possible.

        An optimiser that is assigned changes the parameters that it was made for, and no others.

        Raises:
            TypeError: if what is assigned is no torch.optim.Optimizer, or its step needs a closure.
        """
        return self._m_step.optimizer

    @optimizer.setter
    def optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        self._m_step.optimizer = optimizer

    def forward(self, input: Tensor) -> Tensor:
        """Return the logits of the weights [N, K].

        Args:
            input: features X [N, D], in the network's dtype.
        """
        hidden = torch.relu(self.linear1(input))
        hidden = torch.relu(self.linear2(hidden))
        logits: Tensor = self.linear3(hidden)
        return logits

    def E_step(self, X: Tensor, Y: object, Z: Tensor, HyperParameters: object) -> None:
        """Do nothing: the network has no posterior.

        Args:
            X: not read.
            Y: not read.
            Z: not read.
            HyperParameters: not read.
        """

    @arguments.outside_contexts
    def M_step(self, X: Tensor, Y: object, Z: Tensor, HyperParameters: object) -> None:
        """Minimise −mean of Z·log π(X) by ``epochs`` passes of :attr:`optimizer` over shuffled minibatches of 128.

        The mean is over objects and components; Pyro's SVI takes the steps. The optimiser keeps its state from one
        M-step to the next. Under one seed the minibatches are those of ``DataLoader(dataset, batch_size=128,
        shuffle=True)``. An M-step that raises or is interrupted leaves the network and the optimiser as they were.

        Args:
            X: features [N, D].
            Y: not read.
            Z: responsibilities [N, K], at least zero.
            HyperParameters: not read.

        Raises:
            TypeError: if X or Z is no tensor.
            ValueError: if X is not [N, D], Z is not [N, K], or a value is not finite or, in Z, negative.
        """
        x = arguments.finite("X", self._inputs(X))
        weights = checked_responsibilities(x, Z, self.output_dim, self.linear1.weight).to(x.dtype)

        def go_through_all() -> None:
            for _ in range(self.epochs):
                self._m_step.epoch(x, weights, batch_size=self.batch_size)

        undone_if_it_raises(go_through_all, self._m_step.kept)

    @arguments.outside_contexts
    def LogPiExpectation(self, X: Tensor, Y: object, HyperParameters: object) -> Tensor:
        """Return log softmax of the network [N, K], with its gradient.

        Args:
            X: features [N, D].
            Y: not read.
            HyperParameters: not read.

        Raises:
            TypeError: if X is no tensor.
            ValueError: if X is not [N, D].
        """
        return self.gate.expected_log_weights(self._rows(X)).to(X.dtype)

    @arguments.outside_contexts
    def PredictPi(self, X: Tensor, HyperParameters: object) -> Tensor:
        """Return softmax of the network [N, K], with its gradient.

        Args:
            X: features [N, D].
            HyperParameters: not read.

        Raises:
            TypeError: if X is no tensor.
            ValueError: if X is not [N, D].
        """
        # Not the gate's weights, which have no graph of the parameters.
        return at_least(self.gate.logits(self._rows(X)), X.dtype).softmax(-1).to(X.dtype)

    def _inputs(self, X: Tensor) -> Tensor:
        """X [N, D] on the network's device, in its dtype."""
        return self._rows(X).to(self.linear1.weight)

    def _rows(self, X: Tensor) -> Tensor:
        """X [N, D] on the network's device, in its own dtype, which the weights are normalised in."""
        return arguments.finite("X", arguments.tensor("X", X, ("N", self.input_dim))).to(self.linear1.weight.device)
