"""Mixtures, gates and experts saved in one file that holds no code."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mixpyro import arguments
from mixpyro.arguments.module_contents import refuse_without_values
from mixpyro.arguments.signals import pass_on, without_interruption
from mixpyro.saving import atomic_file, given_networks, stored_values
from mixpyro.saving.description import (
    PARTS,
    Builder,
    GivenError,
    describe_same,
    description_of,
)
from mixpyro.saving.given_networks import Networks

# Format 2 says which columns a mixture was fitted to, format 3 has a checksum. Files of earlier formats must stay
# readable; see tests/data/saved_models.
KIND, VERSION, UNCHECKED = "model", 3, 2


@arguments.outside_contexts
def save(part: PARTS, path: str | os.PathLike[str]) -> None:
    """Write a mixture, a gate or experts to one file.

    The file has the arguments of every constructor and the state dict. Of a network it has the parameters alone:
    :func:`load` takes the network itself as an argument. ``torch.load(path, weights_only=True)`` reads the file too.
    What :func:`load` could not read is refused before anything is written.

    In a class of your own, every argument of the constructor must be an attribute of the same name, or be an entry of
    the state dict.

    Args:
        part: the model to save; it is not changed.
        path: of the file. An existing file is replaced in one step. It keeps its mode, and a symbolic link is followed;
            other names of the file (hard links) keep the old content.

    Raises:
        TypeError: if ``part`` is not a model of mixpyro, or an argument of a constructor cannot be written.
        ValueError: if the state has values that the model cannot have, such as NaN, or none, on the ``meta`` device.
        OSError: if the file cannot be written.
    """
    refuse_without_values("part", part)
    frozen = [name for name, parameter in part.named_parameters() if not parameter.requires_grad]
    description, own_networks = description_of(part)
    content = {"model": description, "state": part.state_dict(), "frozen": frozen}
    _check_readable(part, content, own_networks)
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

    Nothing in the file is run as code. Its checksum, its sizes and its values are checked.

    Args:
        path: of the file.
        networks: the model's networks by their names in the model, such as ``gate.network``. Build them as they were
            before; their parameters are replaced by those of the file. They stay as they are if the file is refused.
        kinds: your own subclasses of Gate or Experts, if the file has any.
        device: to put the model on, such as ``"cpu"`` or ``"cuda"``.
        dtype: to convert the model to; by default it keeps the dtype that it was saved with.

    Returns:
        The mixture, the gate or the experts.

    Raises:
        TypeError: if an argument is of another type.
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, was not written by mixpyro, or is of a later format, or if ``networks`` or
            ``kinds`` do not fit it.
    """
    target, wanted = arguments.device(device), None if dtype is None else arguments.dtype(dtype)
    given = given_networks.checked(networks)
    content = atomic_file.read(path, kind=KIND, version=VERSION, unchecked=UNCHECKED)
    with given_networks.unchanged_by_errors(given):
        try:
            part = _built(content, given, kinds)
            stored_values.check(part)
        except GivenError:
            raise
        # Constructors raise errors of many kinds about what a damaged file tells them.
        except Exception as error:
            pass_on(error)
            said = " ".join(str(error).split()).rstrip(".")[:500]
            raise ValueError(
                f"`path` must be a file that mixpyro wrote; got {os.fspath(path)!r}, damaged: {said}."
            ) from error
        return part.to(device=target, dtype=wanted)


def _built(content: dict[str, Any], networks: Networks, kinds: Sequence[type]) -> PARTS:
    """Return the model that the content of a file describes, with its state."""
    state, frozen = content["state"], content["frozen"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError("its state must be tensors by name")
    if not isinstance(frozen, list):
        raise ValueError("it must name the frozen parameters")
    part = Builder(networks, kinds, n_numbers=sum(value.numel() for value in state.values())).build(content["model"])
    before = {name: value.dtype.is_floating_point for name, value in part.state_dict().items()}
    for name, value in state.items():
        if before.get(name, value.dtype.is_floating_point) != value.dtype.is_floating_point:
            raise ValueError(f"`{name}` must be of another dtype; got {value.dtype}")
    try:
        # PyTorch puts what a handler of a signal raises in words of its own.
        without_interruption(lambda: part.load_state_dict(state, assign=True))
    except RuntimeError as error:
        pass_on(error)
        if any(name in str(error) for name in networks):
            raise GivenError(f"`networks` must be those that the model was saved with; got others. {error}") from error
        raise
    for name, parameter in part.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return part


def _check_readable(part: PARTS, content: dict[str, Any], networks: Networks) -> None:
    """Raise if :func:`load` would refuse the content of a file, or build another model from it."""
    kinds = {type(module) for module in part.modules() if isinstance(module, PARTS)}
    try:
        stored_values.check(part)
    except ValueError as error:
        raise ValueError(f"`part` must have values that a model can have; got one of which {error}.") from error
    with given_networks.unchanged_by_errors(networks, always=True):
        try:
            again = _built(content, networks, [*kinds])
            is_same = describe_same(description_of(again)[0], content["model"])
        except Exception as error:
            pass_on(error)
            raise TypeError(
                f"`part` must be a model that can be built from its arguments; got one of which "
                f"{' '.join(str(error).split())[:500]}"
            ) from error
    if not is_same:
        raise TypeError(
            "`part` must be a model that can be built from its arguments; got one that they do not describe: "
            f"{type(part).__name__}."
        )
