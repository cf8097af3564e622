"""Mixtures, gates and experts saved in one file that holds no code."""

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
from mixpyro.pyro_internals.names import module_name
from mixpyro.saving import atomic_file

# Format 2 says which columns a mixture was fitted to. Files of earlier formats must stay readable; see
# tests/data/saved_models.
KIND, VERSION = "model", 2
PARTS = Gate | Experts | MixtureOfExperts


@arguments.outside_contexts
def save(part: PARTS, path: str | os.PathLike[str]) -> None:
    """Write a mixture, a gate or experts to one file.

    The file has the arguments of every constructor and the state dict. Of a network it has the parameters alone:
    :func:`load` takes the network itself as an argument. ``torch.load(path, weights_only=True)`` reads the file too.

    In a class of your own, every argument of the constructor must be an attribute of the same name, or be an entry of
    the state dict.

    Args:
        part: the model to save; it is not changed.
        path: of the file. An existing file is replaced in one step.

    Raises:
        TypeError: if ``part`` is not a model of mixpyro, or an argument of a constructor cannot be written.
        OSError: if the file cannot be written.
    """
    if not isinstance(part, PARTS):
        raise TypeError(f"`part` must be a mixture, a gate or experts; got {type(part).__name__}.")
    frozen = [name for name, parameter in part.named_parameters() if not parameter.requires_grad]
    content = {"model": _description(part, ""), "state": part.state_dict(), "frozen": frozen}
    atomic_file.write(path, content, kind=KIND, version=VERSION)


@arguments.outside_contexts
def load(
    path: str | os.PathLike[str],
    *,
    networks: Mapping[str, nn.Module | Sequence[nn.Module]] | None = None,
    kinds: Sequence[type] = (),
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> Any:  # noqa: ANN401 (what was saved)
    """Read a mixture, a gate or experts from a file that :func:`save` wrote.

    Args:
        path: of the file.
        networks: the model's networks by their names in the model, such as ``gate.network``. Build them as they were
            before; their parameters are replaced by those of the file.
        kinds: your own subclasses of Gate or Experts, if the file has any.
        device: to put the model on, such as ``"cpu"`` or ``"cuda"``.
        dtype: to convert the model to; by default it keeps the dtype that it was saved with.

    Returns:
        The mixture, the gate or the experts.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, was not written by mixpyro, or is of a later format, or if ``networks`` or
            ``kinds`` do not fit it.
    """
    content = atomic_file.read(path, kind=KIND, version=VERSION)
    target = arguments.device(device)
    try:
        part = _Builder(networks or {}, kinds).build(content["model"])
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
    return part.to(device=target, dtype=dtype)


def _description(value: object, path: str) -> Any:  # noqa: ANN401
    """Describe a value by plain values; ``path`` is its name in the model."""
    if value is None or isinstance(value, bool | int | float | str | Tensor):
        return value
    if isinstance(value, list | tuple):
        return [_description(item, f"{path}.{i}") for i, item in enumerate(value)]
    if isinstance(value, PARTS | Family):
        values = {name: _description(v, f"{path}.{name}".lstrip(".")) for name, v in _arguments(value).items()}
        return {"kind": type(value).__name__, "arguments": values}
    if isinstance(value, torch.distributions.Distribution) and hasattr(dist, type(value).__name__):
        names = inspect.signature(type(value)).parameters
        values = {name: getattr(value, name) for name in names if name != "validate_args" and hasattr(value, name)}
        return {"distribution": type(value).__name__, "arguments": values}
    if isinstance(value, nn.Module):
        return {"network": path}
    raise TypeError(f"`{path}` must be a number, a string, a distribution or a module to be saved; got {value!r}.")


def _arguments(value: object) -> dict[str, object]:
    """Return the constructor's arguments that are attributes and not entries of the state dict."""
    names = inspect.signature(type(value)).parameters
    state = value.state_dict() if isinstance(value, nn.Module) else {}
    for name, parameter in names.items():
        if parameter.default is parameter.empty and not hasattr(value, name):
            kind = type(value).__name__
            raise TypeError(f"`{kind}` must keep its argument `{name}` as an attribute to be saved; got none.")
    plain = [name for name in names if hasattr(value, name) and name not in ("name", "device", "dtype", *state)]
    values = {name: getattr(value, name) for name in plain if f"{name}_unconstrained" not in state}
    return values | ({"name": module_name(value)} if isinstance(value, PARTS) else {})


class _Builder:
    """Builds a model from its description, using known classes only."""

    def __init__(self, networks: Mapping[str, nn.Module | Sequence[nn.Module]], kinds: Sequence[type]) -> None:
        self.networks = networks
        named = [value for module in (gates, experts, families) for value in vars(module).values()]
        known = [*named, MixtureOfExperts, *kinds]
        self.kinds = {
            kind.__name__: kind for kind in known if inspect.isclass(kind) and issubclass(kind, PARTS | Family)
        }

    def build(self, description: Any) -> Any:  # noqa: ANN401
        """Return the value that :func:`_description` described.

        Args:
            description: a plain value, a list, or a dict with the key ``kind``, ``distribution`` or ``network``.
        """
        if isinstance(description, list):
            return [self.build(item) for item in description]
        if not isinstance(description, dict):
            return description
        if "network" in description:
            return self._network(description["network"])
        values = {name: self.build(value) for name, value in description["arguments"].items()}
        if "distribution" in description:
            kind = getattr(dist, description["distribution"])
            if inspect.isclass(kind) and issubclass(kind, torch.distributions.Distribution):
                return kind(**values)
        if description.get("kind") not in self.kinds:
            raise ValueError(
                f"`kinds` must have the class {description.get('kind')!r} of the file; got {list(self.kinds)}."
            )
        return self.kinds[description["kind"]](**values)

    def _network(self, path: str) -> nn.Module | Sequence[nn.Module]:
        """Return the caller's network of this name."""
        if path not in self.networks:
            raise ValueError(
                f"`networks` must have {path!r}, which the file does not hold; got {list(self.networks)}. "
                "Build the network as it was; its parameters do not matter."
            )
        return self.networks[path]
