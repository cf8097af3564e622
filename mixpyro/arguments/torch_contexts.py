"""Contexts of PyTorch that a caller may be in: autocast, inference mode, a default device, function transforms.

Public functions run outside of the first three, so that their results are the same as without: autocast would round
products to half precision, inference mode would leave tensors that no later fit can train, and a default device would
move the library's own tensors away from the data. Transforms of ``torch.func`` go through.
"""

import copy
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from inspect import isfunction
from typing import Any, ParamSpec, TypeVar

import pyro
import torch
from pyro.poutine.runtime import am_i_wrapped
from torch import Tensor, nn
from torch._C._functorch import (
    TransformType,
    get_interpreter_stack,
    get_unwrapped,
    is_batchedtensor,
    is_gradtrackingtensor,
    peek_interpreter_stack,
)
from torch.autograd import forward_ad
from torch.distributions import Distribution

from mixpyro.arguments.declared import DeclaredTypes

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Class = TypeVar("Class", bound=type)

# Devices that a model of this library may be on.
DEVICE_TYPES = ("cpu", "cuda")


def in_transform() -> bool:
    """Return whether a transform of ``torch.func`` is running: grad, vmap, jacrev, jacfwd and the like."""
    return peek_interpreter_stack() is not None


def has_derivatives(*tensors: Tensor) -> bool:
    """Return whether derivatives of tensors are followed: then nothing may be written into a given buffer.

    Args:
        *tensors: of any shapes.
    """
    # A forward-mode level outside of `torch.func` is open from 0 on.
    if in_transform() or forward_ad._current_level >= 0:
        return True
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def is_batched(tensor: Tensor) -> bool:
    """Return whether ``torch.func.vmap`` runs over a tensor, whose values cannot be read then.

    Args:
        tensor: of any shape.
    """
    return in_transform() and is_batchedtensor(_innermost(tensor))


def _innermost(tensor: Tensor) -> Tensor:
    """Return the first batched tensor inside the wrappers of transforms, or what they wrap."""
    while is_gradtrackingtensor(tensor):
        tensor = get_unwrapped(tensor)
    return tensor


def outside_contexts(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a function to run outside autocast, inference mode and a default device, and to check declared types.

    A default device is replaced by that of the first tensor or module among the arguments. Inside ``torch.func.vmap``
    values cannot be read, and are not checked. A constructor without any makes its tensors on the CPU.

    Args:
        function: a public one.
    """
    declared_types = DeclaredTypes(function)
    rest = (torch.empty(0, dtype=torch.float32, device="cpu"),) if function.__name__ == "__init__" else ()

    @functools.wraps(function)
    def outside(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        declared_types.check(args, kwargs)
        # Private names, for they cost 0.1 µs each; torch.get_default_device() takes 5 µs.
        if not (
            torch._C._is_any_autocast_enabled()
            or torch.is_inference_mode_enabled()
            or torch._C._len_torch_function_stack()
            or peek_interpreter_stack() is not None
        ):
            return function(*args, **kwargs)
        with outside_of_contexts(*args, *kwargs.values(), *rest):
            return function(*args, **kwargs)

    return outside


def outside_contexts_on_the_cpu(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a function of NumPy arrays as :func:`outside_contexts` does, its tensors on the CPU.

    Args:
        function: a public one.
    """

    @functools.wraps(function)
    def outside(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with outside_of_contexts(torch.empty(0, dtype=torch.float32, device="cpu")):
            return function(*args, **kwargs)

    return outside


def graph_of_inputs(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a function so that its results have a graph only where a tensor among the arguments asks for one.

    Without, a prediction would have a graph of the parameters, and ``.numpy()`` would fail. A transform of
    ``torch.func`` asks for derivatives, too, and so does a Pyro program, whose parameters SVI may train.

    Args:
        function: of tensors; a method's own module is looked through for tensors made in inference mode.
    """

    @functools.wraps(function)
    def with_graph_of_inputs(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if am_i_wrapped() or not torch.is_grad_enabled():
            return function(*args, **kwargs)
        if in_transform() or any(isinstance(a, Tensor) and a.requires_grad for a in (*args, *kwargs.values())):
            for module in args:
                if isinstance(module, nn.Module):
                    make_normal(module)
            return function(*args, **kwargs)
        with torch.no_grad():
            return function(*args, **kwargs)

    return with_graph_of_inputs


def guard(cls: type, names: Iterable[str], decorator: Callable[[Any], Any]) -> None:
    """Decorate methods of a class that it defines itself.

    Args:
        cls: its methods are replaced.
        names: of methods; those that the class does not define are left out.
        decorator: such as :func:`outside_contexts`.
    """
    for name in names:
        method = vars(cls).get(name)
        if isfunction(method):
            setattr(cls, name, decorator(method))


def guarded(cls: Class, *, predictions: Iterable[str], others: Iterable[str]) -> Class:
    """Let public methods run outside of the caller's contexts, and return the class.

    Args:
        cls: its methods are replaced.
        predictions: methods whose results have a graph only where their arguments ask for one.
        others: methods whose results have the graph that they have.
    """
    guard(cls, predictions, graph_of_inputs)
    guard(cls, (*predictions, *others), outside_contexts)
    return cls


@contextmanager
def outside_of_contexts(*values: object) -> Iterator[None]:
    """Leave autocast, inference mode and a default device inside; see :func:`outside_contexts`.

    Args:
        *values: tensors and modules, whose device replaces the default one.
    """
    with ExitStack() as stack:
        for device_type in DEVICE_TYPES:
            if torch.is_autocast_enabled(device_type):
                stack.enter_context(torch.autocast(device_type, enabled=False))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            # To leave inference mode switches gradients on.
            stack.enter_context(torch.no_grad())
        wanted = _device_of(values) if torch._C._len_torch_function_stack() else None
        if wanted is not None and torch.get_default_device() != wanted:
            stack.enter_context(wanted)
        if any(level.key() == TransformType.Vmap for level in get_interpreter_stack() or ()):
            stack.enter_context(pyro.validation_enabled(False))
        yield


def in_these_contexts(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a function that enters the autocast of this moment, for a program of the user's that is called later.

    Args:
        function: of the user's.
    """
    dtypes = {kind: torch.get_autocast_dtype(kind) for kind in DEVICE_TYPES if torch.is_autocast_enabled(kind)}
    if not dtypes:
        return function

    @functools.wraps(function)
    def inside(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with ExitStack() as stack:
            for kind, dtype in dtypes.items():
                stack.enter_context(torch.autocast(kind, dtype=dtype))
            return function(*args, **kwargs)

    return inside


def _device_of(values: Iterable[object]) -> torch.device | None:
    """Return the device of the first tensor, or of a module's first or a fit's mixture's; None without any."""
    for value in values:
        if not isinstance(value, Tensor | nn.Module):
            value = getattr(value, "mixture", value)
        # A module under construction has no parameters yet.
        if isinstance(value, nn.Module) and "_parameters" in vars(value):
            value = next(itertools.chain(value.parameters(), value.buffers()), None)
        if isinstance(value, Tensor):
            return value.device
    return None


def normal(tensor: Tensor) -> Tensor:
    """Return a copy of a tensor that was made in inference mode, which autograd refuses; any other as it is.

    Args:
        tensor: of any shape.
    """
    return tensor.clone() if tensor.is_inference() and not torch.is_inference_mode_enabled() else tensor


def normal_distribution(distribution: Distribution) -> Distribution:
    """Return a distribution without tensors that were made in inference mode, the same one if it has none.

    Args:
        distribution: of Pyro or PyTorch, perhaps around another one.
    """
    replaced: dict[str, object] = {}
    for name, value in vars(distribution).items():
        if isinstance(value, Tensor):
            replaced[name] = normal(value)
        elif isinstance(value, Distribution):
            replaced[name] = normal_distribution(value)
    if all(vars(distribution)[name] is value for name, value in replaced.items()):
        return distribution
    copied = copy.copy(distribution)
    vars(copied).update(replaced)
    return copied


def make_normal(module: nn.Module) -> None:
    """Replace parameters and buffers that were made in inference mode by copies that can be trained.

    Args:
        module: values and ``requires_grad`` of its tensors stay. Tensors that are shared stay shared.
    """
    copies: dict[int, Tensor] = {}
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                if tensor is not None and not nn.parameter.is_lazy(tensor) and tensor.is_inference():
                    if id(tensor) not in copies:
                        copies[id(tensor)] = _copied(tensor)
                    tensors[name] = copies[id(tensor)]  # type: ignore[assignment]


def refuse_lazy(tensors: Iterable[Tensor], *, name: str = "network") -> None:
    """Raise if layers of a network have no shapes yet.

    Args:
        tensors: parameters and buffers.
        name: of the argument, for the message.

    Raises:
        ValueError: with what to do.
    """
    if any(nn.parameter.is_lazy(tensor) for tensor in tensors):
        raise ValueError(f"`{name}` must have layers of known shapes; got lazy ones. Call it once: {name}(x).")


def _copied(tensor: Tensor) -> Tensor:
    """Return a copy of a parameter or buffer that is outside of inference mode."""
    with torch.inference_mode(False), torch.no_grad():
        copied = tensor.detach().clone()
        return nn.Parameter(copied, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copied
