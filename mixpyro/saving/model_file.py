"""Mixtures, gates and experts in one file that holds no code."""

import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from mixpyro import arguments, experts, gates
from mixpyro.experts import families
from mixpyro.experts.base import Experts
from mixpyro.experts.families import Family
from mixpyro.gates.base import Gate
from mixpyro.mixture import MixtureOfExperts
from mixpyro.saving import atomic_file

KIND, VERSION = "model", 1
PARTS = Gate | Experts | MixtureOfExperts


def save(part: PARTS, path: str | os.PathLike[str]) -> None:
    """Write a mixture, a gate or experts to one file: what they are, and every number they hold.

    An argument of the constructor must be an attribute of the same name or live in the state dict. A network is not
    written, only its parameters are: see :func:`load`. ``torch.load(path, weights_only=True)`` reads the file too.

    Args:
        part: what to save; it is not changed.
        path: of the file; one that stands there is replaced, at once and as a whole.

    Raises:
        TypeError: if an argument is nothing that can be written.
        OSError: if the file cannot be written.
    """
    if not isinstance(part, PARTS):
        raise TypeError(f"`part` must be a mixture, a gate or experts; got {type(part).__name__}.")
    frozen = [name for name, parameter in part.named_parameters() if not parameter.requires_grad]
    content = {"model": _described(part, ""), "state": part.state_dict(), "frozen": frozen}
    atomic_file.write(path, content, kind=KIND, version=VERSION)


def load(
    path: str | os.PathLike[str],
    *,
    networks: Mapping[str, nn.Module | Sequence[nn.Module]] | None = None,
    kinds: Sequence[type] = (),
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> Any:  # noqa: ANN401 (what was saved)
    """Read what :func:`save` wrote.

    Args:
        path: of the file.
        networks: the networks that the model had, by the names under which it had them, such as ``gate.network``; their
            parameters are replaced by those in the file.
        kinds: your own subclasses of Gate or Experts, where the file has any.
        device: where the model is to live.
        dtype: of its numbers; by default the one it was saved with.

    Returns:
        The mixture, the gate or the experts.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, none of mixpyro's, of a later version, or its networks are not those given.
    """
    content = atomic_file.read(path, kind=KIND, version=VERSION)
    place = arguments.device(device)
    try:
        part = _Builder(networks or {}, kinds).build(content["model"], "")
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"`path` must be a file that mixpyro wrote; got {os.fspath(path)!r}, damaged.") from error
    if not isinstance(part, PARTS):
        raise ValueError(f"`path` must hold a mixture, a gate or experts; got a {type(part).__name__}.")
    try:
        part.load_state_dict(content["state"], assign=True)
    except RuntimeError as error:
        raise ValueError(f"`networks` must be those that the model was saved with; got others. {error}") from error
    for name, parameter in part.named_parameters():
        parameter.requires_grad_(name not in content["frozen"])
    return part.to(device=place, dtype=dtype)


def _described(value: object, path: str) -> Any:  # noqa: ANN401
    """A value as plain values; ``path`` is where it stands in the model."""
    if value is None or isinstance(value, bool | int | float | str | Tensor):
        return value
    if isinstance(value, list | tuple):
        return [_described(item, f"{path}.{i}") for i, item in enumerate(value)]
    if isinstance(value, PARTS | Family):
        arguments = {name: _described(v, f"{path}.{name}".lstrip(".")) for name, v in _arguments(value).items()}
        return {"kind": type(value).__name__, "arguments": arguments}
    if isinstance(value, torch.distributions.Distribution) and hasattr(dist, type(value).__name__):
        names = inspect.signature(type(value)).parameters
        arguments = {name: getattr(value, name) for name in names if name != "validate_args" and hasattr(value, name)}
        return {"distribution": type(value).__name__, "arguments": arguments}
    if isinstance(value, nn.Module):
        return {"network": path}
    raise TypeError(f"`{path}` must be a number, a string, a distribution or a module to be saved; got {value!r}.")


def _arguments(value: object) -> dict[str, object]:
    """The constructor's arguments that are attributes and no part of the state."""
    names = inspect.signature(type(value)).parameters
    state = value.state_dict() if isinstance(value, nn.Module) else {}
    plain = [name for name in names if hasattr(value, name) and name not in ("name", "device", "dtype", *state)]
    arguments = {name: getattr(value, name) for name in plain if f"{name}_unconstrained" not in state}
    # PyroModule keeps the prefix of the sites under a name of its own.
    return arguments | ({"name": value._pyro_name} if isinstance(value, PARTS) else {})


class _Builder:
    """Makes a model from its description, of known classes only."""

    def __init__(self, networks: Mapping[str, nn.Module | Sequence[nn.Module]], kinds: Sequence[type]) -> None:
        self.networks = networks
        named = [value for module in (gates, experts, families) for value in vars(module).values()]
        known = [*named, MixtureOfExperts, *kinds]
        self.kinds = {
            kind.__name__: kind for kind in known if inspect.isclass(kind) and issubclass(kind, PARTS | Family)
        }

    def build(self, described: Any, path: str) -> Any:  # noqa: ANN401
        if isinstance(described, list):
            return [self.build(item, f"{path}.{i}") for i, item in enumerate(described)]
        if not isinstance(described, dict):
            return described
        if "network" in described:
            return self._network(described["network"])
        arguments = {name: self.build(v, f"{path}.{name}") for name, v in described["arguments"].items()}
        if "distribution" in described:
            kind = getattr(dist, described["distribution"])
            if inspect.isclass(kind) and issubclass(kind, torch.distributions.Distribution):
                return kind(**arguments)
        if described.get("kind") not in self.kinds:
            raise ValueError(
                f"`kinds` must have the class {described.get('kind')!r} of the file; got {list(self.kinds)}."
            )
        return self.kinds[described["kind"]](**arguments)

    def _network(self, path: str) -> nn.Module | Sequence[nn.Module]:
        if path not in self.networks:
            raise ValueError(
                f"`networks` must have {path!r}, which the file does not hold; got {list(self.networks)}. "
                "Build the network as it was, its parameters do not matter."
            )
        return self.networks[path]
