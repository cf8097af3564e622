"""Calling a neural network that is part of a gate or of experts, inside a Pyro program and outside of one."""

from collections.abc import Sequence

from pyro.nn import PyroModule
from torch import Tensor, nn

from mixpyro.parameters import refuse_shared_parameters, unregistered


def evaluate(owner: PyroModule, networks: Sequence[nn.Module], x: Tensor) -> list[Tensor]:
    """Every ``network(x)``, x in the dtype of its parameters; the user's parameter store is left alone.

    Args:
        owner: the gate or experts whose parts the networks are.
        networks: any modules.
        x: what they take.

    Raises:
        RuntimeError: outside a Pyro program, if a network has random weights; inside one, if another module has
            registered parameters under the owner's name.
    """
    if owner._pyro_context.active:
        refuse_shared_parameters(owner)
    return [_call(network, x, in_program=bool(owner._pyro_context.active)) for network in networks]


def _call(network: nn.Module, x: Tensor, *, in_program: bool) -> Tensor:
    x = x.to(next(network.parameters(), x).dtype)
    if in_program or not any(isinstance(part, PyroModule) for part in network.modules()):
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


def trainable_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Those parameters of the network that are not frozen."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]
