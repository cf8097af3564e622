"""What modules hold, kept so that it can be put back."""

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mixpyro.arguments.data import DTYPES
from mixpyro.arguments.signals import undone_if_it_raises

Result = TypeVar("Result")

# Containers among the attributes of a module whose entries are put back.
CONTAINERS = frozenset((dict, OrderedDict, list, set))


def refuse_without_values(name: str, module: nn.Module) -> None:
    """Raise if a tensor of a module is on the ``meta`` device, where tensors have a shape and no numbers.

    Args:
        name: of the argument.
        module: what the user passed.

    Raises:
        ValueError: if one is.
    """
    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        raise ValueError(f"`{name}` must have values; got tensors on the meta device, which have none.")


def refuse_half_precision(name: str, module: nn.Module) -> None:
    """Raise if a part of a mixture keeps estimates or a posterior in half precision, which rounds what a fit has found.

    Networks of the user's may have any dtype, and what is beside them has theirs.

    Args:
        name: of the argument.
        module: what the user passed.

    Raises:
        TypeError: if one does.
    """
    own = [part for part in module.modules() if type(part).__module__.startswith("mixpyro.")]
    for part in own:
        for tensor in (*part._parameters.values(), *part._buffers.values()) if not hasattr(part, "network") else ():
            if tensor is not None and tensor.is_floating_point() and tensor.dtype not in DTYPES:
                raise TypeError(
                    f"`{name}` must have tensors of float32 or float64; got {tensor.dtype} in {type(part).__name__}. "
                    f"Use {name}.double()."
                )


def contents_of(*modules: nn.Module) -> Callable[[], None]:
    """Keep what modules hold, and return a function that puts it back.

    Tensors stay the same objects, with the values that they had. Put back are parameters, their gradients and whether
    they are trained, buffers, the training mode and all other attributes; of those that are no tensors, modules or
    plain containers only which object they are.

    Args:
        *modules: with all modules in them.

    Returns:
        A function that puts everything back, bit for bit.
    """
    parts = list({id(part): part for module in modules for part in module.modules()}.values())
    attributes = [(vars(part), dict(vars(part)), _containers(vars(part))) for part in parts]
    tensors = _kept_tensors(parts)

    def put_back() -> None:
        for own, before, containers in attributes:
            own.update(before)
            for name in own.keys() - before.keys():
                del own[name]
            for container, entries in containers:
                _refill(container, entries)
        for tensor, value, trains, gradient in tensors:
            _set(tensor, value)
            if tensor.is_leaf:
                tensor.requires_grad_(trains)
                tensor.grad = gradient

    return put_back


def unchanged_if_it_raises(method: Callable[..., Result]) -> Callable[..., Result]:
    """Decorate a method of a module to leave the module as it was if it raises or is interrupted.

    Args:
        method: one that changes the module, and takes long beside the 50 µs that this takes.
    """

    @functools.wraps(method)
    def whole(self: nn.Module, *args: Any, **kwargs: Any) -> Result:  # noqa: ANN401 (they are the method's)
        return undone_if_it_raises(lambda: method(self, *args, **kwargs), lambda: contents_of(self))

    return whole


def _kept_tensors(parts: Iterable[nn.Module]) -> list[tuple[Tensor, Tensor, bool, Tensor | None]]:
    """Return parameters and buffers, with copies of their values, whether they are trained, and their gradients."""
    found: dict[int, Tensor] = {}
    for part in parts:
        for tensor in (*part._parameters.values(), *part._buffers.values()):
            if tensor is not None and not is_lazy(tensor):
                found[id(tensor)] = tensor
    return [(one, one.detach().clone(), one.requires_grad, one.grad if one.is_leaf else None) for one in found.values()]


def _containers(attributes: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Return plain containers among attributes, with copies of them; the many empty ones are of hooks."""
    found = [value for value in attributes.values() if type(value) in CONTAINERS]
    return [(value, value.copy() if value else ()) for value in found]


def _refill(container: Any, entries: Any) -> None:  # noqa: ANN401
    """Give a container the entries that it had."""
    container.clear()
    if isinstance(container, list):
        container.extend(entries)
    else:
        container.update(entries)


def _set(tensor: Tensor, value: Tensor) -> None:
    """Give a tensor the values that it had."""
    with torch.inference_mode(tensor.is_inference()), torch.no_grad():
        if tensor.shape == value.shape and tensor.dtype == value.dtype and tensor.device == value.device:
            tensor.copy_(value)
        else:
            tensor.data = value
