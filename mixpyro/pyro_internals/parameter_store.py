"""Parameters and Pyro's parameter store: whose parameter is it?"""

import itertools
import math
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pyro
import torch
from pyro.nn import PyroModule
from pyro.poutine.messenger import Messenger
from torch.nn import Parameter

# Pyro's store, settings and stack of handlers are the process's: two threads must not change them at a time.
_ONE_THREAD = threading.RLock()

# Identities of modules of plain PyTorch, whose parameters Pyro has got already from the one who trains them.
_REGISTERED: ContextVar[frozenset[int]] = ContextVar("mixpyro_registered", default=frozenset())

_NOT_REGISTERED = ".* was not registered in the param store because requires_grad=False"


def refuse_shared_parameters(module: PyroModule) -> None:
    """Raise if the parameter store holds another module's parameters under this module's name.

    Pyro would go on without a word: the store's tensors are trained, and the module's own never change.

    Raises:
        RuntimeError: if it does.
    """
    prefix = f"{module._pyro_name}." if module._pyro_name else ""
    stored = [(name.replace("$$$", "."), value) for name, value in pyro.get_param_store().named_parameters()]
    stored = [(name, value) for name, value in stored if name.startswith(prefix)]
    # To list them takes as long as a small network, and in most programs there is nothing to compare them with.
    own = dict(module.named_parameters()) if stored else {}
    for full_name, value in stored:
        path = full_name.removeprefix(prefix)
        mine = own.get(path, own.get(f"{path}_unconstrained"))
        if mine is not None and mine is not value:
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
    return any(parameter.requires_grad for parameter in module.parameters())


@contextmanager
def unregistered(module: torch.nn.Module) -> Iterator[None]:
    """Keep the parameters of ``module`` out of the user's parameter store, whatever registers them inside.

    What Pyro does to parameters on the way is undone: it thaws frozen ones of a PyroModule, and hangs a weak reference
    on each, with which none can be pickled.
    """
    with (
        _ONE_THREAD,
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
    """Keep the fixed parameters of ``module`` fixed and out of the parameter store, whatever registers them inside.

    Registering thaws a frozen parameter of a PyroModule (pyro issue 3438); a frozen one of another module is left out,
    with a warning that says no more than what the user has asked for.
    """
    frozen = {id(parameter) for parameter in module.parameters() if not parameter.requires_grad}
    if not frozen:
        yield
        return
    with _PassFrozen(frozen), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_NOT_REGISTERED)
        yield


class _PassFrozen(Messenger):
    """Hand parameters back as they are, before any handler or the store sees them."""

    def __init__(self, frozen: set[int]) -> None:
        super().__init__()
        self.frozen = frozen

    def _pyro_param(self, message: Any) -> None:  # noqa: ANN401
        value = message["args"][1] if len(message["args"]) > 1 else None
        if id(value) in self.frozen:
            message.update(value=value, done=True, stop=True)


@contextmanager
def own_parameter_store(module: torch.nn.Module) -> Iterator[list[Parameter]]:
    """A fresh parameter store to train ``module`` in, with gradients on and from zero; gives the trainable parameters.

    The user's store stands again afterwards, and so do the gradients that the parameters had.
    """
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    gradients = [parameter.grad for parameter in trainable]
    for parameter in trainable:
        parameter.grad = None
    with unregistered(module), torch.enable_grad():
        try:
            yield trainable
        finally:
            for parameter, gradient in zip(trainable, gradients, strict=True):
                parameter.grad = gradient


@contextmanager
def registered_as_one(module: PyroModule) -> Iterator[None]:
    """Have Pyro take the parameters of ``module`` as registered: its plain networks are called as they are.

    For the one who registers them all in a tensor of his own. A PyroModule among the networks still registers its
    parameters, one by one, for it does so by itself.
    """
    plain = frozenset(
        id(part) for part in module.modules() if not any(isinstance(inner, PyroModule) for inner in part.modules())
    )
    token = _REGISTERED.set(plain)
    try:
        # Entered here once, so that each call of a Pyro method inside finds it open: to open it asks Pyro's settings.
        with module._pyro_context:
            yield
    finally:
        _REGISTERED.reset(token)


def is_registered(network: torch.nn.Module) -> bool:
    """Whether Pyro has the parameters of a network of plain PyTorch already; see :func:`registered_as_one`."""
    return id(network) in _REGISTERED.get()
