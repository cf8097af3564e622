"""Calling a neural network that is part of a gate or of experts, inside a Pyro program and outside of one."""

from collections.abc import Iterator

from pyro.nn import PyroModule
from torch import Tensor, nn

from mixpyro.pyro_internals.parameter_store import is_registered, kept_frozen, refuse_shared_parameters, unregistered


def evaluate(owner: PyroModule, x: Tensor) -> list[Tensor]:
    """``network(x)`` of the owner's ``network``, or of each in a list of them, x in the dtype of its parameters.

    Outside a Pyro program the user's parameter store is left alone; inside, fixed parameters stay fixed.

    Args:
        owner: the gate or experts whose part the network is.
        x: what it takes.

    Raises:
        RuntimeError: outside a Pyro program, if a network has random weights; inside one, if another module has
            registered parameters under the owner's name.
    """
    if not owner._pyro_context.active:
        return [_call_outside(network, x) for network in _each(network_of(owner))]
    if is_registered(network_of(owner)):
        return [network(_in_its_dtype(network, x)) for network in _each(network_of(owner))]
    refuse_shared_parameters(owner)
    with kept_frozen(network_of(owner)):
        return [network(_in_its_dtype(network, x)) for network in _each(owner.network)]


def network_of(owner: PyroModule) -> nn.Module:
    """The owner's ``network``, to look at: in a Pyro program, reading the attribute registers its parameters."""
    network = owner._modules["network"]
    assert network is not None
    return network


def _each(network: nn.Module) -> list[nn.Module]:
    """The networks of a list; by name, so that they are registered in a Pyro program."""
    if not isinstance(network, nn.ModuleList):
        return [network]
    return [getattr(network, str(k)) for k in range(len(network))]


def _in_its_dtype(network: nn.Module, x: Tensor) -> Tensor:
    return x.to(next(network.parameters(), x).dtype)


def _call_outside(network: nn.Module, x: Tensor) -> Tensor:
    x = _in_its_dtype(network, x)
    if not any(isinstance(part, PyroModule) for part in network.modules()):
        return network(x)
    refuse_random_weights(network)
    # Called, a PyroModule registers its parameters: this is no Pyro program, so not in the user's store.
    with unregistered(network):
        return network(x)


def refuse_random_weights(network: nn.Module) -> None:
    """Raise RuntimeError if the network has PyroSample weights."""
    if any(getattr(part, "_pyro_samples", None) for part in network.modules()):
        raise RuntimeError(
            "`network` must have no random weights where a fit or a prediction needs its output; got PyroSample "
            "weights. Use `model` in a Pyro program of your own, with a guide for them."
        )


def trainable_parameters(network: nn.Module) -> Iterator[nn.Parameter]:
    """Those parameters of the network that are not frozen."""
    return (parameter for parameter in network.parameters() if parameter.requires_grad)
