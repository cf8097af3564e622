"""Tensors as arrays of ArviZ: with chains, as counts, without an axis of one output."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from mixpyro.diagnostics.arviz_versions import Variable

# Whole numbers beyond it do not fit into int64, or soon do not.
MOST_COUNT = 2.0**62
# Names of the axes of objects and of rows, which are two where objects are groups of rows.
OBJECTS, ROWS = "object", "row"
# In ``constant_data``: the number of each row's group, from 0.
GROUP_NUMBER = "group_number"


def as_numpy(values: Tensor | None) -> np.ndarray:
    """Return a tensor's values as an array.

    Args:
        values: of any shape, on any device; not None.
    """
    assert values is not None
    return values.detach().cpu().numpy()


def with_chains(axes: Sequence[str], values: np.ndarray, n_chains: int) -> Variable:
    """Split the first axis of an array into chains and draws.

    Args:
        axes: names of the other axes.
        values: [S, …].
        n_chains: number of chains, one after the other in the draws.
    """
    # Not -1: an array without numbers, as of the coefficients of a gate of one component, has many sizes.
    return ("chain", "draw", *axes), values.reshape(n_chains, len(values) // n_chains, *values.shape[1:])


def axes_of_outcome(n_outputs: int, rows: str = OBJECTS) -> tuple[str, ...]:
    """Return the names of the axes of y: of one output it has no axis, as ArviZ's functions of predictions need it.

    Args:
        n_outputs: P.
        rows: name of the axis of rows.
    """
    return (rows,) if n_outputs == 1 else (rows, "output")


def are_counts(values: np.ndarray) -> bool:
    """Whether all numbers are whole and exact.

    Args:
        values: of any shape.
    """
    if values.dtype.kind != "f":
        return True
    return bool((np.abs(values) <= MOST_COUNT).all() and (values == np.rint(values)).all())


def counts_in_place(values: np.ndarray) -> np.ndarray:
    """Return float64 numbers as int64, in the same memory.

    Args:
        values: whole numbers [S, …], contiguous, which are overwritten.
    """
    counts = values.view(np.int64)
    for row, count in zip(values, counts, strict=True):
        count[...] = row.astype(np.int64)
    return counts


def name_of_output(observed: Any, output: int) -> str:  # noqa: ANN401 (an xarray DataArray)
    """Return the name of a column of y.

    Args:
        observed: y, [N] or [N, P].
        output: number of the column, from 0.
    """
    names = observed.coords["output"].values if "output" in observed.coords else [observed.attrs.get("long_name", "y")]
    return str(names[output])
