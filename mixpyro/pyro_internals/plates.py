"""Plates of a Pyro program around a gate: those over objects, and those over parts with weights of their own."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.poutine.runtime import _PYRO_STACK, get_plates
from pyro.poutine.subsample_messenger import SubsampleMessenger
from torch import Tensor

from mixpyro import arguments

# Plates over repeated draws of a whole program: two of Pyro and one of this library. All other plates are over data.
PREDICTIVE_PLATE = "_num_predictive_samples"
PARTICLES_PLATE = "num_particles_vectorized"
DRAWS_PLATE = "mixpyro.draws"
REPEATED = (PREDICTIVE_PLATE, PARTICLES_PLATE, DRAWS_PLATE)
# The plate over the rows that a mixture makes itself, behind the mixture's name if it has one.
OBJECTS_PLATE = "objects"

Plates = pyro.plate | Sequence[pyro.plate]


def objects_plate(x: Tensor, name: str = OBJECTS_PLATE) -> pyro.plate:
    """Make a plate over the rows of x, of dim −1.

    Args:
        x: inputs [N, D].
        name: of the plate, full.
    """
    return pyro.plate(name, len(x), dim=-1, device=str(x.device))


def is_objects_plate(name: str) -> bool:
    """Return whether a plate of a mixture's program is that of the objects.

    Args:
        name: of the plate, full.
    """
    return name == OBJECTS_PLATE or name.endswith(f".{OBJECTS_PLATE}")


def checked_plates(plate: Plates | None, x: Tensor) -> tuple[pyro.plate, ...]:
    """Return the caller's plates over objects from the outermost on, if x has a row for each object.

    Args:
        plate: one plate, or several with dims.
        x: inputs, whose leading axes are the sizes of the plates.

    Raises:
        TypeError: if ``plate`` is neither a plate nor a sequence of plates.
        ValueError: if it is missing, a dim is taken or missing, or x has other rows.
    """
    if plate is None:
        raise ValueError(
            "`plate` must be the plate over the objects; got None. Without it the assignments and the data would be in "
            'two plates. Write\n    plate = pyro.plate("objects", len(x), dim=-1)\n'
            "    z = gate.model(x, plate=plate)  # before `with plate:`; likewise in the guide"
        )
    several = (plate,) if isinstance(plate, pyro.plate) else plate
    if not isinstance(several, Sequence) or not several or not all(isinstance(one, pyro.plate) for one in several):
        raise TypeError(f"`plate` must be a pyro.plate or a sequence of them; got {arguments.shown(plate)}.")
    plates = tuple(several)
    if len(plates) > 1:
        if any(one.dim is None for one in plates):
            raise ValueError("`plate` must have a `dim` in each of several plates; got a plate without.")
        plates = tuple(sorted(plates, key=lambda one: int(one.dim or 0)))
    for one in plates:
        refuse_entered(one)
    _check_rows(plates, x)
    return plates


def _check_rows(plates: tuple[pyro.plate, ...], x: Tensor) -> None:
    """Raise if the leading axes of x are not the sizes of the plates."""
    rows, sizes = list(x.shape[: len(plates)]), [one.subsample_size for one in plates]
    if len(rows) < len(sizes) or any(size not in (-1, n) for n, size in zip(rows, sizes, strict=True)):
        wanted, got = (f"{sizes[0]}", f"{[*rows, 'none'][0]}") if len(sizes) == 1 else (f"{sizes}", f"{rows}")
        raise ValueError(
            f"`x` must have a row for each of the plate's objects, {wanted}; got {got}. "
            "Pass the rows of the subsample: `with plate as rows: x = x[rows]`."
        )


def refuse_entered(plate: pyro.plate) -> None:
    """Raise if a plate cannot be entered: the call is inside it, or inside another of its dim.

    Args:
        plate: over objects.

    Raises:
        ValueError: if so.
    """
    taken = [frame for frame in data_plates() if frame.name == plate.name or frame.dim == plate.dim]
    if taken:
        raise ValueError(
            f"`plate` must find dim {taken[0].dim} free; got a call inside the plate {taken[0].name!r}. Call the gate "
            "before `with plate:` and pass it the plate; it enters it itself."
        )


@contextmanager
def entered(plates: tuple[pyro.plate, ...]) -> Iterator[None]:
    """Enter plates over objects, the outermost first.

    Args:
        plates: as :func:`checked_plates` returns them.
    """
    with ExitStack() as stack:
        for plate in plates:
            stack.enter_context(plate)
        yield


def data_plates() -> list[CondIndepStackFrame]:
    """Return the vectorised plates around the call that are over data, by dim, the outermost axis first."""
    frames = [frame for frame in get_plates() if frame.vectorized and frame.name not in REPEATED]
    return sorted(frames, key=lambda frame: int(frame.dim))  # type: ignore[arg-type]


def scale_of_plates() -> float:
    """Return how often each part counts in the plates around the call: N / B for each plate with a subsample.

    Sequential plates are among them.
    """
    frames = [frame for frame in get_plates() if frame.full_size is not None and frame.name not in REPEATED]
    return math.prod(int(frame.full_size or 0) / int(frame.size) for frame in frames)


def batch_shape(frames: Sequence[CondIndepStackFrame]) -> list[int]:
    """Return the batch shape that plates give to a site, with ones at dims without a plate.

    Args:
        frames: of the plates.
    """
    sizes = {int(frame.dim): int(frame.size) for frame in frames if frame.dim is not None}
    return [sizes.get(dim, 1) for dim in range(min(sizes, default=0), 0)]


def rows_of(plate: SubsampleMessenger) -> Tensor:
    """Return the row numbers [B] of a plate's subsample in the whole data, or all row numbers [N].

    Args:
        plate: over objects.
    """
    return torch.as_tensor(plate.indices)


def rows_in(frame: CondIndepStackFrame) -> Tensor:
    """Return the row numbers that a plate around the call draws.

    Args:
        frame: of the plate.
    """
    plates = (one for one in _PYRO_STACK if isinstance(one, SubsampleMessenger) and one.name == frame.name)
    return rows_of(next(plates))


def rows_of_all(plates: tuple[pyro.plate, ...]) -> tuple[Tensor, int]:
    """Return the numbers of the objects of several plates, row by row, and how many there are in the whole data.

    Args:
        plates: over objects, the outermost first.
    """
    numbers = rows_of(plates[0])
    for plate in plates[1:]:
        numbers = (numbers.unsqueeze(-1) * int(plate.size) + rows_of(plate)).flatten()
    return numbers, math.prod(int(plate.size) for plate in plates)


def refuse_outer_plates(name: str, *, n_parts: int = 0) -> None:
    """Raise if a site would be drawn once for each part of an outer plate of which its gate knows nothing.

    Args:
        name: full name of the site.
        n_parts: number of outer plates that the gate has a posterior for.

    Raises:
        ValueError: if it would.
    """
    outer = data_plates()
    if len(outer) > n_parts:
        raise ValueError(
            f"{name!r} must stand outside the plate {outer[0].name!r}; got a call inside it, where each of its "
            f"{outer[0].size} parts has weights of its own and the gate has one posterior. Call the gate before "
            "entering that plate to share the weights, or give a DirichletGate the plate's size as `batch_shape`."
        )


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
    shape = torch.Size([*batch_shape(get_plates()), *fn.event_shape])
    return value.reshape(shape) if value.numel() == shape.numel() else value
