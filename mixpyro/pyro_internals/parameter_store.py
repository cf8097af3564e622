"""Pyro's parameter store: which module each parameter belongs to, and a separate store for an M-step."""

import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import pyro
import torch
from pyro.nn import PyroModule
from pyro.poutine.messenger import Messenger
from torch.nn import Parameter

from mixpyro.pyro_internals.one_thread import ONE_THREAD

# Dtypes of the parameters of plain torch modules, by identity, which the caller has registered with Pyro already.
_REGISTERED: ContextVar[Mapping[int, torch.dtype | None]] = ContextVar(
    "mixpyro_registered", default=MappingProxyType({})
)

_NOT_REGISTERED = ".* was not registered in the param store because requires_grad=False"


def refuse_shared_parameters(module: PyroModule) -> None:
    """Raise if the parameter store holds another module's parameters under this module's name.

    Pyro itself does not raise: it trains the tensors in the store, and those of the second module never change.

    Args:
        module: a gate or experts.

    Raises:
        RuntimeError: if a stored parameter has the name of a parameter of ``module`` and is another tensor.
    """
    if is_registered(module):
        return
    prefix = f"{module._pyro_name}." if module._pyro_name else ""
    stored = [(name.replace("$$$", "."), value) for name, value in pyro.get_param_store().named_parameters()]
    stored = [(name, value) for name, value in stored if name.startswith(prefix)]
    # Listing a module's parameters takes as long as evaluating a small network, and most programs store none.
    own = dict(module.named_parameters()) if stored else {}
    for full_name, value in stored:
        path = full_name.removeprefix(prefix)
        parameter = own.get(path, own.get(f"{path}_unconstrained"))
        if parameter is not None and parameter is not value:
            raise RuntimeError(
                f"the name of a parameter must belong to one module; got {full_name!r}, which another module has put "
                "into Pyro's parameter store. Give each its own `name`, or call pyro.clear_param_store() in between; "
                "to take over parameters that ParamStore.load has read, use load_state_dict."
            )


def minus_log_normal_prior(parameters: Iterable[torch.Tensor], scale: float | None) -> torch.Tensor:
    """−Σ log Normal(θ; 0, scale²) over all parameters in nats, zero without a scale; a float64 scalar.

    Written out: a distribution for each parameter takes longer than the rest of an SVI step.
    """
    parameters = iter(parameters)
    first = next(parameters, None)
    if scale is None or first is None:
        return torch.zeros((), dtype=torch.float64, device=None if first is None else first.device)
    theta = torch.cat([parameter.flatten() for parameter in (first, *parameters)]).double() / scale
    return 0.5 * theta.dot(theta) + len(theta) * math.log(scale * math.sqrt(2 * math.pi))


def numbered_entries(module: torch.nn.Module) -> dict[str, list[str]]:
    """A name for every entry of every parameter, such as ``weight[0, 2]``, in the parameter's order."""
    return {
        name: [f"{name}[{', '.join(map(str, index))}]" for index in itertools.product(*map(range, parameter.shape))]
        for name, parameter in module.named_parameters()
    }


def has_parameters(module: torch.nn.Module) -> bool:
    """Whether the module has anything that a gradient M-step could change."""
    if not module._modules:  # a walk over modules takes longer than a small sum
        return any(one is not None and one.requires_grad for one in module._parameters.values())
    return any(parameter.requires_grad for parameter in module.parameters())


@contextmanager
def unregistered(module: torch.nn.Module) -> Iterator[None]:
    """Keep the parameters of a module out of the user's parameter store.

    Inside, the store is empty and may be filled. Afterwards the user's store is back. What Pyro does to parameters when
    it registers them is undone: it makes frozen parameters of a PyroModule trainable, and gives each parameter a weak
    reference that cannot be pickled.

    Args:
        module: any torch module.
    """
    with (
        ONE_THREAD.alone(),
        pyro.settings.context(module_local_params=False),
        pyro.get_param_store().scope(),
        warnings.catch_warnings(),
    ):
        before = [(p, p.requires_grad, hasattr(p, "unconstrained")) for p in module.parameters()]
        warnings.filterwarnings("ignore", message=_NOT_REGISTERED)
        try:
            yield
        finally:
            for parameter, trainable, registered in before:
                parameter.requires_grad_(trainable)
                if not registered:
                    vars(parameter).pop("unconstrained", None)


@contextmanager
def kept_frozen(module: torch.nn.Module) -> Iterator[None]:
    """Keep frozen parameters of a module frozen and out of the parameter store.

    Pyro makes a frozen parameter of a PyroModule trainable when it registers it (pyro issue 3438). It does not register
    a frozen parameter of a plain torch module, and warns about it; the warning is suppressed.

    Args:
        module: any torch module.
    """
    frozen = {id(parameter) for parameter in module.parameters() if not parameter.requires_grad}
    if not frozen:
        yield
        return
    with _PassFrozen(frozen), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_NOT_REGISTERED)
        yield


class _PassFrozen(Messenger):
    """Return frozen parameters unchanged, before another handler or the store processes them."""

    def __init__(self, frozen: set[int]) -> None:
        super().__init__()
        self.frozen = frozen

    def _pyro_param(self, message: Any) -> None:  # noqa: ANN401
        value = message["args"][1] if len(message["args"]) > 1 else None
        if id(value) in self.frozen:
            message.update(value=value, done=True, stop=True)


@contextmanager
def gradients_set_aside(parameters: Iterable[torch.Tensor]) -> Iterator[None]:
    """Clear the gradients of parameters, and put back the cleared ones afterwards.

    Args:
        parameters: leaf tensors, trainable or not.
    """
    before = [(parameter, parameter.grad) for parameter in parameters]
    for parameter, _ in before:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in before:
            parameter.grad = gradient


@contextmanager
def own_parameter_store(module: torch.nn.Module) -> Iterator[list[Parameter]]:
    """Train a module in an empty parameter store, with gradients enabled and cleared.

    Afterwards the user's store and the gradients that the parameters had are back.

    Args:
        module: any torch module.

    Yields:
        The module's trainable parameters.
    """
    with gradients_set_aside(module.parameters()), unregistered(module), torch.enable_grad():
        yield [parameter for parameter in module.parameters() if parameter.requires_grad]


@contextmanager
def parameters_registered(module: PyroModule) -> Iterator[None]:
    """Skip Pyro's registration of the plain torch networks of a module, which takes a fifth of a step.

    For callers that register all parameters themselves, in a store of the module's own. A PyroModule among the networks
    still registers its own.

    Args:
        module: a gate or experts.
    """
    plain = (part for part in module.modules() if not any(isinstance(inner, PyroModule) for inner in part.modules()))
    dtypes = {id(part): _dtype(part) for part in plain}
    token = _REGISTERED.set({**dtypes, id(module): _dtype(module)})
    try:
        # Entered once here: each Pyro method that is called inside would otherwise look up Pyro's settings.
        with module._pyro_context:
            yield
    finally:
        _REGISTERED.reset(token)


def is_registered(module: torch.nn.Module) -> bool:
    """Whether the caller has registered the parameters of a module with Pyro.

    Args:
        module: a gate, experts, or the network of one.

    Returns:
        Whether :func:`parameters_registered` is in force for it and, of a network, whether it is a plain torch module.
    """
    return id(module) in _REGISTERED.get()


def dtype_of_parameters(module: torch.nn.Module) -> torch.dtype | None:
    """Return the dtype of a module's first parameter, None without parameters.

    Args:
        module: any torch module. Where it :func:`is_registered`, its dtype is known: to look for one takes 6 µs.
    """
    registered = _REGISTERED.get()
    return registered[id(module)] if id(module) in registered else _dtype(module)


def _dtype(module: torch.nn.Module) -> torch.dtype | None:
    parameter = next(module.parameters(), None)
    return None if parameter is None else parameter.dtype
