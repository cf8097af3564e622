"""Evaluation of a neural network that is part of a gate or of experts, inside a Pyro program or outside of one."""

import opcode
from collections.abc import Iterator
from typing import NamedTuple

import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from mixpyro.arguments import normal
from mixpyro.arguments.signals import pass_on
from mixpyro.pyro_internals.parameter_store import (
    dtype_of_parameters,
    is_registered,
    kept_frozen,
    refuse_shared_parameters,
    unregistered,
)
from mixpyro.pyro_internals.random_networks import called


class NetworkOutput(NamedTuple):
    """What a network must return.

    Attributes:
        name: of the numbers, for messages.
        shapes: those that the output may have; any if there are none.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]

    def of(self, network: nn.Module, x: Tensor) -> Tensor:
        """Return the output of a network, if it is what it must be; its buffers are as before otherwise.

        Args:
            network: is called.
            x: inputs [N, D].
        """
        counted = [(buffer, buffer.clone()) for buffer in network.buffers()] if network.training else []
        try:
            return self._checked(_called(network, x), x)
        except Exception:
            with torch.no_grad():
                for buffer, before in counted:
                    buffer.copy_(before)
            raise

    def _checked(self, output: object, x: Tensor) -> Tensor:
        """Return an output of the right type and shape."""
        if not isinstance(output, Tensor) or not output.is_floating_point():
            kind = output.dtype if isinstance(output, Tensor) else type(output).__name__
            raise TypeError(f"`network` must return a tensor of floats; got {kind}.")
        if self.shapes and tuple(output.shape) not in self.shapes:
            wanted, got = " or ".join(str(list(shape)) for shape in self.shapes), list(output.shape)
            raise ValueError(f"`network` must return {self.name} of shape {wanted} for x {list(x.shape)}; got {got}.")
        return output


# An output of any shape.
ANY_OUTPUT = NetworkOutput("numbers", ())


def _is_raised_by_the_network(error: Exception) -> bool:
    """Return whether a network's own code has raised an error, rather than an operation of PyTorch in it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or str(trace.tb_frame.f_globals.get("__name__")).split(".")[0] == "torch":
        return False
    return trace.tb_frame.f_code.co_code[trace.tb_lasti] == opcode.opmap["RAISE_VARARGS"]


def _called(network: nn.Module, x: Tensor) -> object:
    """Return what a network returns; an error of PyTorch in it names the network and the shape of its inputs."""
    try:
        return called(network, x)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError) as error:
        pass_on(error)
        if _is_raised_by_the_network(error):
            raise
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(f"`network` must take x {list(x.shape)} of {x.dtype}; got from it {reason}") from error


def evaluate(owner: PyroModule, x: Tensor, outputs: NetworkOutput) -> list[Tensor]:
    """Evaluate the network of a gate or of experts, or each network of its list.

    Outside a Pyro program the user's parameter store stays unchanged. Inside, the parameters are registered, and frozen
    ones stay frozen.

    Args:
        owner: the gate or experts with the attribute ``network``.
        x: inputs [N, D], which are converted to the dtype of each network's parameters.
        outputs: what each network must return.

    Returns:
        The output of each network.

    Raises:
        TypeError: if a network returns something else than a tensor of floats.
        ValueError: if a network fails for x, or returns another shape. What it counts, such as the running averages of
            a batch normalisation, is as before then.
        RuntimeError: outside a Pyro program, if a network has random weights; inside one, if another module has
            registered parameters under the owner's name.
    """
    if not owner._pyro_context.active:
        return [_call_outside(network, x, outputs) for network in _each(network_of(owner))]
    if is_registered(network_of(owner)):
        return [outputs.of(network, _in_its_dtype(network, x)) for network in _each(network_of(owner))]
    refuse_shared_parameters(owner)
    with kept_frozen(network_of(owner)):
        return [outputs.of(network, _in_its_dtype(network, x)) for network in _each(owner.network)]


def network_of(owner: PyroModule) -> nn.Module:
    """Return the ``network`` of a gate or of experts without registering its parameters.

    Reading the attribute inside a Pyro program would register them.

    Args:
        owner: the gate or experts.
    """
    network = owner._modules["network"]
    assert network is not None
    return network


@torch.no_grad()
def last_layers(owner: PyroModule, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return what the last layer of each network reads [N, E], and its coefficients [B, 1 + E], the intercept first.

    A network that does not end in a trainable ``torch.nn.Linear`` counts as one that rescales its own outputs. Networks
    with random weights have none.

    Args:
        owner: the gate or experts with the attribute ``network``.
        x: inputs [N, D].
    """
    networks = _each(network_of(owner))
    if any(getattr(part, "_pyro_samples", None) for network in networks for part in network.modules()):
        return []
    return [_last_layer(network, x) for network in networks if any(True for _ in trainable_parameters(network))]


def _last_layer(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and coefficients of a network's last layer."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear) and layer.weight.requires_grad]
    seen: list[tuple[Tensor, Tensor]] = []
    hooks = [
        layer.register_forward_hook(lambda _, given, output: seen.append((given[0], output))) for layer in layers[-1:]
    ]
    try:
        output = _call_outside(network, x, ANY_OUTPUT).flatten(1)
    finally:
        for hook in hooks:
            hook.remove()
    if seen and seen[-1][0].ndim == 2 and torch.equal(seen[-1][1], output):
        layer = layers[-1]
        intercept = layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias
        return seen[-1][0], torch.cat([intercept.unsqueeze(1), layer.weight], 1)
    return output, torch.eye(output.shape[1] + 1, dtype=output.dtype, device=output.device)[1:]


def _each(network: nn.Module) -> list[nn.Module]:
    """List the networks of a ModuleList by attribute, so that a Pyro program registers their parameters."""
    if not isinstance(network, nn.ModuleList):
        return [network]
    return [getattr(network, str(k)) for k in range(len(network))]


def _in_its_dtype(network: nn.Module, x: Tensor) -> Tensor:
    """Convert inputs to the dtype of a network's parameters."""
    return normal(x).to(dtype_of_parameters(network) or x.dtype)


def _call_outside(network: nn.Module, x: Tensor, outputs: NetworkOutput) -> Tensor:
    """Evaluate a network outside a Pyro program."""
    x = _in_its_dtype(network, x)
    if not any(isinstance(part, PyroModule) for part in network.modules()):
        return outputs.of(network, x)
    refuse_random_weights(network)
    # A PyroModule registers its parameters when it is called, even outside a Pyro program.
    with unregistered(network):
        return outputs.of(network, x)


def refuse_random_weights(network: nn.Module) -> None:
    """Raise if a network has PyroSample weights.

    Args:
        network: of a gate or of experts.

    Raises:
        RuntimeError: if it has.
    """
    if any(getattr(part, "_pyro_samples", None) for part in network.modules()):
        raise RuntimeError(
            "`network` must have no random weights where a fit or a prediction needs its output; got PyroSample "
            "weights. Use `model` in a Pyro program of your own, with a guide for them."
        )


def trainable_parameters(network: nn.Module) -> Iterator[nn.Parameter]:
    """Iterate over the parameters of a network that are not frozen.

    Args:
        network: any torch module.
    """
    return (parameter for parameter in network.parameters() if parameter.requires_grad)
