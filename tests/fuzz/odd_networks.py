"""Networks that a gate or experts may be given by mistake."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


class ReturnsTuple(nn.Module):
    """A network of two results."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Any:
        """Return the result twice."""
        result = self.inner(x)
        return result, result


class ChangesInputs(ReturnsTuple):
    """A network that writes into its inputs."""

    def forward(self, x: Tensor) -> Any:
        """Double the inputs in place."""
        return self.inner(x.mul_(2.0))


class TimesFactor(ReturnsTuple):
    """A network whose result is not finite, or of another shape."""

    def __init__(self, inner: nn.Module, factor: float) -> None:
        super().__init__(inner)
        self.factor = factor

    def forward(self, x: Tensor) -> Any:
        """Multiply the result."""
        return self.inner(x) * self.factor


class Fails(ReturnsTuple):
    """A network with an error of its own."""

    def forward(self, x: Tensor) -> Any:
        """Fail."""
        raise RuntimeError("`network` of the user's has failed")


class Constant(nn.Module):
    """A network without parameters."""

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.n_outputs = n_outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros."""
        return x.new_zeros(*x.shape[:-1], self.n_outputs)


def _sizes(network: nn.Module) -> tuple[int, int, torch.dtype]:
    """Return how many columns a network reads and returns, and their dtype."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    if not layers:
        return 1, 1, torch.float64
    return layers[0].in_features, layers[-1].out_features, layers[0].weight.dtype


def _normalised(network: nn.Module) -> nn.Module:
    """Return the network behind a BatchNorm."""
    n_inputs, _, dtype = _sizes(network)
    return nn.Sequential(nn.BatchNorm1d(n_inputs, dtype=dtype), copy.deepcopy(network))


def _frozen(network: nn.Module) -> nn.Module:
    """Return the network with parameters that are not trained, but for lazy ones, which have no values yet."""
    frozen = copy.deepcopy(network)
    for parameter in frozen.parameters():
        if not is_lazy(parameter):
            parameter.requires_grad_(False)
    return frozen


NETWORKS: dict[str, Callable[[nn.Module], Any]] = {
    "a BatchNorm": _normalised,
    "dropout": lambda n: nn.Sequential(nn.Dropout(0.3), copy.deepcopy(n)),
    "too few inputs": lambda n: nn.Linear(_sizes(n)[0] + 1, _sizes(n)[1], dtype=_sizes(n)[2]),
    "too many outputs": lambda n: nn.Linear(_sizes(n)[0], _sizes(n)[1] + 2, dtype=_sizes(n)[2]),
    "no parameters": lambda n: Constant(_sizes(n)[1]),
    "two results": lambda n: ReturnsTuple(copy.deepcopy(n)),
    "NaN": lambda n: TimesFactor(copy.deepcopy(n), float("nan")),
    "infinity": lambda n: TimesFactor(copy.deepcopy(n), float("inf")),
    "large results": lambda n: TimesFactor(copy.deepcopy(n), 1e200),
    "changes of its inputs": lambda n: ChangesInputs(copy.deepcopy(n)),
    "an error": lambda n: Fails(copy.deepcopy(n)),
    "frozen parameters": _frozen,
    "half precision": lambda n: copy.deepcopy(n).half(),
    "single precision": lambda n: copy.deepcopy(n).float(),
    "parameters without storage": lambda n: copy.deepcopy(n).to("meta"),
    "lazy layers": lambda n: nn.LazyLinear(_sizes(n)[1], dtype=_sizes(n)[2]),
    "an identity": lambda n: nn.Identity(),
    "no rows of its own": lambda n: nn.Sequential(copy.deepcopy(n), nn.Flatten(0)),
}


def odd_network(word: str, network: nn.Module) -> tuple[Any, str]:
    """Return a network that differs from a right one, and a word for how.

    Args:
        word: one of `NETWORKS`.
        network: one that is right.
    """
    return NETWORKS[word](network), f"a network with {word}"
