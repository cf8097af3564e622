"""Objects of several plates as rows, and as axes of a Pyro program."""

import pyro
from torch import Tensor


def rows_of_objects(plates: tuple[pyro.plate, ...], x: Tensor) -> Tensor:
    """Return x as rows [N, D], of one column where it has none.

    Args:
        plates: over the objects, the outermost first.
        x: gate inputs [*objects, D] or [*objects].
    """
    return x.reshape(-1, 1) if x.ndim == len(plates) else x.flatten(0, len(plates) - 1)


def axes_of_objects(plates: tuple[pyro.plate, ...], x: Tensor) -> list[int]:
    """Return the shape of the objects as axes of a program, with ones at dims between the plates.

    Args:
        plates: over the objects, the outermost first.
        x: gate inputs [*objects, D].
    """
    sizes = [int(size) for size in x.shape[: len(plates)]]
    if len(plates) == 1 and plates[0].dim is None:
        return sizes
    dims = {int(plate.dim or 0): size for plate, size in zip(plates, sizes, strict=True)}
    return [dims.get(dim, 1) for dim in range(min(dims), 0)]


def with_axes(log_weights: Tensor, view: list[int]) -> Tensor:
    """Return log weights [..., N, K] with the objects' axes in place of N; those that all objects share as given.

    Args:
        log_weights: [..., N, K], or [K].
        view: what :func:`axes_of_objects` returns.
    """
    if len(view) == 1 or log_weights.ndim == 1:
        return log_weights
    outer = log_weights.shape[: -1 - len(view)]
    return log_weights.reshape(*outer, *view, log_weights.shape[-1])
