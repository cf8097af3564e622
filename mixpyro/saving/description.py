"""Models described by plain values, and built again from them."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from mixpyro import experts, gates
from mixpyro.arguments import shown
from mixpyro.experts import families
from mixpyro.experts.base import Experts
from mixpyro.experts.families import Family
from mixpyro.gates.base import Gate
from mixpyro.mixture import MixtureOfExperts
from mixpyro.pyro_internals.names import module_name
from mixpyro.saving.allocation_limit import AllocationLimit
from mixpyro.saving.given_networks import Networks

PARTS = Gate | Experts | MixtureOfExperts
# Numbers that a constructor may make in one tensor, in units of those in the state, and beside them; a size that is
# declared may be that of all numbers in the state, and beside them. Eight megabytes, and a few thousand components.
MOST_TIMES, MOST_NUMBERS, MOST_SIZE = 8, 2**20, 10_000
# Arguments that are sizes; those that begin with ``n_`` are, too.
SIZES = ("batch_shape", "tree")


class GivenError(ValueError):
    """What a caller gave does not fit the file."""


def description_of(part: PARTS) -> tuple[Any, dict[str, Any]]:
    """Return a description of a model by plain values and tensors, without its state, and its networks by name.

    Args:
        part: a mixture, a gate or experts.

    Raises:
        TypeError: if an argument of a constructor cannot be described.
    """
    networks: dict[str, Any] = {}
    return _described(part, "", networks), networks


def _described(value: object, path: str, networks: dict[str, Any]) -> Any:  # noqa: ANN401
    """Describe a value by plain values, and collect networks; ``path`` is its name in the model."""
    if isinstance(value, Tensor):
        # Not the memory that it is a view of.
        return value.detach().clone(memory_format=torch.contiguous_format)
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return [_described(item, f"{path}.{i}", networks) for i, item in enumerate(value)]
    if isinstance(value, PARTS | Family):
        arguments = _arguments(value)
    elif _is_distribution(type(value)):
        names = inspect.signature(type(value)).parameters
        arguments = {name: getattr(value, name) for name in names if name != "validate_args" and hasattr(value, name)}
    elif isinstance(value, nn.Module):
        networks[path] = value
        return {"network": path}
    else:
        raise TypeError(
            f"`{path}` must be a number, a string, a distribution or a module to be saved; got {shown(value)}."
        )
    values = {name: _described(v, f"{path}.{name}".lstrip("."), networks) for name, v in arguments.items()}
    key = "kind" if isinstance(value, PARTS | Family) else "distribution"
    return {key: type(value).__name__, "arguments": values}


def _is_distribution(kind: type) -> bool:
    """Return whether a class is a distribution that Pyro has under its name."""
    known = getattr(dist, kind.__name__, None)
    return inspect.isclass(known) and kind in (known, getattr(torch.distributions, kind.__name__, None))


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
    # A constructor of a user's own may give a fixed name.
    return values | ({"name": module_name(value)} if isinstance(value, PARTS) and "name" in names else {})


class Builder:
    """Builds a model from its description, using known classes only.

    Args:
        networks: of the model, by name.
        kinds: classes of a user's own.
        n_numbers: numbers in the state of the model.
    """

    def __init__(self, networks: Networks, kinds: Sequence[type], *, n_numbers: int) -> None:
        self.networks = networks
        named = [value for module in (gates, experts, families) for value in vars(module).values()]
        known = [*named, MixtureOfExperts, *kinds]
        self.kinds = {
            kind.__name__: kind for kind in known if inspect.isclass(kind) and issubclass(kind, PARTS | Family)
        }
        self.most_numbers, self.most_size = MOST_TIMES * n_numbers + MOST_NUMBERS, n_numbers + MOST_SIZE

    def build(self, description: Any) -> PARTS:  # noqa: ANN401
        """Return the model that :func:`description_of` described.

        Args:
            description: of a mixture, a gate or experts.

        Raises:
            GivenError: if a network or a class of the user's is missing.
            ValueError: if it describes no model, or one that is much larger than the state.
        """
        with AllocationLimit(self.most_numbers):
            part = self._built(description)
        if not isinstance(part, PARTS):
            raise ValueError(f"it must hold a mixture, a gate or experts; got a {type(part).__name__}")
        return part

    def _built(self, description: Any) -> Any:  # noqa: ANN401
        """Return the value that was described: a plain one, a list, or a dict with a kind."""
        if isinstance(description, list):
            return [self._built(item) for item in description]
        if not isinstance(description, dict):
            return description
        if "network" in description:
            return self._network(description["network"])
        values = {name: self._built(value) for name, value in description["arguments"].items()}
        self._check_sizes(values)
        if "distribution" in description:
            kind = getattr(dist, description["distribution"])
            if not inspect.isclass(kind) or not issubclass(kind, torch.distributions.Distribution):
                raise ValueError("it has a distribution that Pyro does not have")
            return kind(**values)
        if description.get("kind") not in self.kinds:
            raise GivenError(
                f"`kinds` must have the class {str(description.get('kind'))[:100]!r} of the file; "
                f"got {list(self.kinds)}."
            )
        return self.kinds[description["kind"]](**values)

    def _check_sizes(self, values: Mapping[str, Any]) -> None:
        """Raise if sizes are declared that the state cannot have."""
        for name, value in values.items():
            sizes = value if isinstance(value, list) else [value]
            if name.startswith("n_") or name in SIZES:
                for size in sizes:
                    if isinstance(size, int | float) and size > self.most_size:
                        raise ValueError(f"it declares `{name}={value}`, and does not have as many numbers")

    def _network(self, path: object) -> nn.Module | Sequence[nn.Module]:
        """Return the caller's network of this name."""
        if not isinstance(path, str):
            raise ValueError("it has a network without a name")
        if path not in self.networks:
            raise GivenError(
                f"`networks` must have {shown(path)}, which the file does not hold; got {list(self.networks)}. "
                "Build the network as it was; its parameters do not matter."
            )
        return self.networks[path]


def describe_same(first: object, second: object) -> bool:
    """Return whether two descriptions are equal, NaN equal to itself.

    Args:
        first: a description.
        second: another.
    """
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(describe_same(one, second[name]) for name, one in first.items())
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(describe_same, first, second))
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and torch.allclose(first, second, rtol=1e-6, atol=0.0, equal_nan=True)
    return type(first) is type(second) and (first == second or first != first)
