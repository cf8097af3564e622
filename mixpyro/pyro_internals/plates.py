"""Pyro sites and plates: checks of the program around a sample statement of a gate or of experts."""

from collections.abc import Iterable
from typing import Any

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.poutine.block_messenger import BlockMessenger
from pyro.poutine.condition_messenger import ConditionMessenger
from pyro.poutine.do_messenger import DoMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK, get_plates
from pyro.poutine.trace_messenger import TraceMessenger
from torch import Tensor

# Plates over repeated draws of a whole program: two of Pyro and one of this library. All other plates are over data.
PREDICTIVE_PLATE = "_num_predictive_samples"
PARTICLES_PLATE = "num_particles_vectorized"
DRAWS_PLATE = "mixpyro.draws"
# The plate over the rows that a program makes itself, behind the prefix of the mixture or gate if it has one.
OBJECTS_PLATE = "objects"


def objects_plate(x: Tensor, name: str = OBJECTS_PLATE) -> pyro.plate:
    """Make a plate over the rows of x, of dim −1.

    Args:
        x: inputs [N, D].
        name: of the plate, full.
    """
    return pyro.plate(name, len(x), dim=-1, device=str(x.device))


def is_objects_plate(name: str) -> bool:
    """Return whether a plate of a mixture's program, or of a gate's, is that of the objects.

    Args:
        name: of the plate, full.
    """
    return name == OBJECTS_PLATE or name.endswith(f".{OBJECTS_PLATE}")


def checked_plate(plate: pyro.plate | None, x: Tensor, name: str = OBJECTS_PLATE) -> pyro.plate:
    """Return a plate over objects if its dim is −1 and it has as many objects as x has rows.

    Args:
        plate: the caller's plate; None for a new one over the rows of x.
        x: inputs [N, D], or [B, D] of the plate's subsample.
        name: of a new one.

    Raises:
        ValueError: if not.
    """
    if plate is None:
        return objects_plate(x, name)
    if plate.dim not in (-1, None):
        raise ValueError(f"`plate` must have dim -1, the objects innermost; got dim {plate.dim}.")
    if plate.subsample_size not in (-1, len(x)):
        raise ValueError(
            f"`x` must have a row for each of the plate's objects, {plate.subsample_size}; got {len(x)}. "
            "Pass the rows of the subsample: `with plate as rows: x = x[rows]`."
        )
    return plate


def refuse_inner_call() -> None:
    """Raise if the call is inside a plate of dim −1, where the plate of the objects cannot be entered.

    Raises:
        ValueError: if it is.
    """
    taken = next((frame.name for frame in get_plates() if frame.dim == -1), None)
    if taken is not None:
        raise ValueError(
            f"`plate` must find dim -1 free; got a call inside the plate {taken!r}. Call the gate before "
            "`with plate:` and pass it the plate; it enters it itself."
        )


def refuse_outer_plates(name: str) -> None:
    """Raise if a site with one posterior for all data would be drawn once for each part of an outer plate.

    Args:
        name: full name of the site.

    Raises:
        ValueError: if it would.
    """
    repeated = (PREDICTIVE_PLATE, PARTICLES_PLATE, DRAWS_PLATE)
    outer = [frame for frame in get_plates() if frame.vectorized and frame.name not in repeated]
    if outer:
        raise ValueError(
            f"{name!r} must stand outside the plate {outer[0].name!r}; got a call inside it, where each of its "
            f"{outer[0].size} parts has weights of its own and the gate has one posterior. Call the gate before "
            "entering that plate to share the weights, or take one gate a part."
        )


def refuse_taken_name(name: str) -> None:
    """Raise if the program already has a site of a name, with advice that Pyro's own error lacks.

    Args:
        name: full name of the site.

    Raises:
        RuntimeError: if it has.
    """
    for handler in reversed(_PYRO_STACK):
        if isinstance(handler, BlockMessenger):
            return
        if isinstance(handler, TraceMessenger) and not handler.param_only:
            if name in handler.trace:
                raise RuntimeError(
                    f"the name of a site must be used once in a program; got {name!r} twice. "
                    "Give each gate its own `name`, and call each once."
                )
            return


def refuse_given_value(name: str) -> None:
    """Raise if a handler gives a value for a site that the program integrates out.

    Args:
        name: full name of the site.

    Raises:
        ValueError: if one does.
    """
    for handler in _PYRO_STACK:
        if isinstance(handler, ConditionMessenger | DoMessenger) and name in handler.data:
            raise ValueError(
                f"`gates` must not have a gate whose weights are given; got a value for {name!r}, which would be "
                "ignored. Leave the gate out: then it is a part of the program like any other."
            )


class GuideWithoutSites(Messenger):
    """Raise where a guide samples a site that belongs to a gate.

    Args:
        names: full names of the sites.

    Raises:
        ValueError: if the guide, called inside or decorated, samples one of them.
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self.names = set(names)

    def _pyro_sample(self, message: Any) -> None:  # noqa: ANN401
        if message["name"] in self.names:
            raise ValueError(
                f"`guide` must leave the sites of `gates` to the gates; got {message['name']!r}. Hide a gate's "
                "`latent_sites` from an automatic guide; of your own, call `gate.guide(x)`, without responsibilities."
            )


def rows_of(plate: pyro.plate) -> Tensor:
    """Return the row numbers [B] of a plate's subsample in the whole data, or all row numbers [N].

    Args:
        plate: over objects.
    """
    return torch.as_tensor(plate.indices)


def sample_parameter(name: str, fn: TorchDistributionMixin) -> Tensor:
    """Sample a parameter that has event axes and stands outside the plate of the objects.

    ``Predictive(parallel=True)`` counts event axes as plates when it puts a draw in: a draw [S, K] of weights, where
    the plate of S draws has dim −2, should come as [S, 1, K]. The missing axes are inserted here.

    Args:
        name: full name of the site.
        fn: distribution of the parameter.

    Returns:
        The value, with the batch axes of the plates around the call and the event axes of ``fn``.
    """
    value = pyro.sample(name, fn)
    if not any(frame.name == PREDICTIVE_PLATE for frame in get_plates()):
        return value
    shape = torch.Size([*batch_shape(), *fn.event_shape])
    return value.reshape(shape) if value.numel() == shape.numel() else value


def batch_shape() -> list[int]:
    """Return the batch shape that the plates around the call give to a site, with ones where there is no plate."""
    sizes = {frame.dim: frame.size for frame in get_plates() if frame.dim is not None}
    return [sizes.get(dim, 1) for dim in range(min(sizes, default=0), 0)]
