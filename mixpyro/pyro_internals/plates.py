"""Pyro sites and plates: what surrounds a sample statement of a gate or of experts."""

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.poutine.block_messenger import BlockMessenger
from pyro.poutine.condition_messenger import ConditionMessenger
from pyro.poutine.do_messenger import DoMessenger
from pyro.poutine.runtime import _PYRO_STACK, get_plates
from pyro.poutine.trace_messenger import TraceMessenger
from torch import Tensor

# Plates around a whole program, over repeated draws of it: two of Pyro and one of ours. All others are over data.
PREDICTIVE_PLATE = "_num_predictive_samples"
PARTICLES_PLATE = "num_particles_vectorized"
DRAWS_PLATE = "mixpyro.draws"


def objects_plate(x: Tensor) -> pyro.plate:
    """The plate over the rows of x, ``objects``, innermost."""
    return pyro.plate("objects", len(x), dim=-1)


def checked_plate(plate: pyro.plate | None, x: Tensor) -> pyro.plate:
    """Return ``plate``, or one over x's rows, if the objects are its last axis and as many as x has rows.

    Raises:
        ValueError: if not.
    """
    if plate is None:
        return objects_plate(x)
    if plate.dim not in (-1, None):
        raise ValueError(f"`plate` must have dim -1, the objects innermost; got dim {plate.dim}.")
    if plate.subsample_size not in (-1, len(x)):
        raise ValueError(
            f"`x` must have a row for each of the plate's objects, {plate.subsample_size}; got {len(x)}. "
            "Pass the rows of the subsample: `with plate as rows: x = x[rows]`."
        )
    return plate


def refuse_inner_call() -> None:
    """Raise if the plate of the objects cannot be entered, because the call is inside it or another of dim −1.

    Raises:
        ValueError: if so.
    """
    taken = next((frame.name for frame in get_plates() if frame.dim == -1), None)
    if taken is not None:
        raise ValueError(
            f"`plate` must find dim -1 free; got a call inside the plate {taken!r}. Call the gate before "
            "`with plate:` and pass it the plate; it enters it itself."
        )


def refuse_outer_plates(name: str) -> None:
    """Raise if a site with one posterior for all data would be drawn once for each part of an outer plate.

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
    """Raise if the program has a site ``name`` already. Pyro would too, but not say what to do.

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
    """Raise if a handler around gives a value for a site that the program integrates out, and so does not have.

    Raises:
        ValueError: if one does.
    """
    for handler in _PYRO_STACK:
        if isinstance(handler, ConditionMessenger | DoMessenger) and name in handler.data:
            raise ValueError(
                f"`gates` must not have a gate whose weights are given; got a value for {name!r}, which would be "
                "ignored. Leave the gate out: then it is a part of the program like any other."
            )


def rows_of(plate: pyro.plate) -> Tensor:
    """Which objects of the whole data are in the plate's subsample [B], all of them where it has none."""
    return torch.as_tensor(plate.indices)


def sample_parameter(name: str, fn: TorchDistributionMixin) -> Tensor:
    """``pyro.sample`` of a parameter that has event axes and stands outside the objects' plate.

    ``Predictive(parallel=True)`` counts event axes as plates when it puts a draw in: a draw [S, K] of weights, where
    the plate of S draws has dim −2, should come as [S, 1, K]. Here the missing axes are put back.
    """
    value = pyro.sample(name, fn)
    if not any(frame.name == PREDICTIVE_PLATE for frame in get_plates()):
        return value
    shape = torch.Size([*batch_shape(), *fn.event_shape])
    return value.reshape(shape) if value.numel() == shape.numel() else value


def batch_shape() -> list[int]:
    """Shape that the plates around give to a site, ones where there is none."""
    sizes = {frame.dim: frame.size for frame in get_plates() if frame.dim is not None}
    return [sizes.get(dim, 1) for dim in range(min(sizes, default=0), 0)]
