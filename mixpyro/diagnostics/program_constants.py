"""What a Pyro program is given and not observes: its other arguments, and parameters without a posterior."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor

from mixpyro.diagnostics.arrays import as_numpy
from mixpyro.diagnostics.arviz_versions import Variable
from mixpyro.diagnostics.program_runs import Program
from mixpyro.pyro_internals.handlers import unconstrained


def constants(model: Program, n_objects: int, axis: str) -> dict[str, Variable]:
    """Return the tensors among the arguments that are not observed, and the parameters of the model.

    Args:
        model: the program.
        n_objects: N. The first axis of an argument is that of the objects if it is as long.
        axis: name of the axis of objects.
    """
    sites = [site for site in model.first.nodes.values() if site["type"] == "sample" and site["is_observed"]]
    observed = [site["value"] for site in sites if isinstance(site["value"], Tensor)]
    variables: dict[str, Variable] = {}
    for name, value in parameters_of(model.first).items():
        variables[name] = tuple(f"{name}_dim_{number}" for number in range(value.ndim)), as_numpy(value)
    for name, value in _arguments(model.function, model.arguments, model.keywords).items():
        if isinstance(value, Tensor) and not _is_observed(value, observed):
            names = [f"{name}_dim_{number}" for number in range(value.ndim)]
            if value.ndim and len(value) == n_objects and name != axis:
                names = [axis, *names[:-1]]
            variables[name] = tuple(names), as_numpy(value)
    return variables


def parameters_of(trace: poutine.Trace) -> dict[str, Tensor]:
    """Return the parameters of a program by name, which have no posterior.

    Args:
        trace: of the program.
    """
    sites: dict[str, Any] = {name: site["value"] for name, site in trace.nodes.items() if site["type"] == "param"}
    return {name.replace("$$$", "."): value for name, value in sites.items()}


def trained(trace: poutine.Trace) -> dict[str, int]:
    """Return how many numbers each of a program's trained parameters has, by its name.

    Args:
        trace: of the program. Values under a constraint are computed from what is trained, and need no gradient in a
            run without.
    """
    leaves: dict[int, tuple[str, Tensor]] = {}
    for name, value in parameters_of(trace).items():
        leaf = unconstrained(value)
        leaves.setdefault(id(leaf), (name, leaf))
    return {name: leaf.numel() for name, leaf in leaves.values() if leaf.requires_grad}


def _arguments(function: Callable[..., Any], arguments: Iterable[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a program by the names of its parameters."""
    inner = _without_handlers(function)
    inner = inner.forward if isinstance(inner, torch.nn.Module) else inner
    bound = inspect.signature(inner).bind(*arguments, **keywords)
    named: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            named |= {f"{name}_{number}": one for number, one in enumerate(value)}
        elif kind is inspect.Parameter.VAR_KEYWORD:
            named |= value
        else:
            named[name] = value
    return named


def _without_handlers(function: Any) -> Any:  # noqa: ANN401 (any callable)
    """Return the function inside of Pyro's handlers, which hide its parameters. The caller's own partials stay."""
    while isinstance(function, functools.partial):
        call = function if type(function) is functools.partial else function.func
        arguments = call.args if isinstance(call, functools.partial) else ()
        if len(arguments) < 2 or not isinstance(arguments[0], Messenger):
            break
        function = arguments[1]
    return function


def _is_observed(argument: Tensor, observed: Iterable[Tensor]) -> bool:
    """Whether every number of an argument is observed: it is a site's value, or all of it is viewed by some sites."""
    values = [value for value in observed if value.numel() and value.device == argument.device]
    if any(
        value.numel() == argument.numel() and torch.equal(value.flatten(), argument.flatten().to(value))
        for value in values
    ):
        return True
    storage = argument.untyped_storage().data_ptr()
    views = [value for value in values if value.untyped_storage().data_ptr() == storage]
    if not views:
        return False
    # Columns of one table share their storage, so compare which of its numbers the tensors have.
    positions = [_positions(tensor) for tensor in (argument, *views)]
    return bool(torch.isin(positions[0], torch.cat(positions[1:])).all())


def _positions(tensor: Tensor) -> Tensor:
    """Return where in its storage the numbers of a tensor are, flat."""
    position = torch.tensor(tensor.storage_offset(), device=tensor.device)
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        position = position.unsqueeze(-1) + stride * torch.arange(size, device=tensor.device)
    return position.flatten()
