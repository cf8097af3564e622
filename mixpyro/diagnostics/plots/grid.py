"""Grids over some of the inputs that a gate reads."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mixpyro.diagnostics.plots.source import Source, as_array
from mixpyro.diagnostics.plots.style import drawn, limits


class Grid(NamedTuple):
    """Rows on a grid over some inputs of a gate, with the others at their medians."""

    values: list[np.ndarray]  # coordinates along each input
    gate_x: Tensor  # what the gate reads [M, G]
    labels: list[str]  # names of the inputs, as matplotlib draws them
    held: str  # which others are at their medians, in words; empty without others


def gate_grid(source: Source, features: Sequence[int | str], n_points: int) -> Grid:
    """Return a grid over the range of some inputs of the gate.

    Args:
        source: the fit.
        features: numbers of the columns that the gate reads, from 0, or their names.
        n_points: number of points along each.

    Raises:
        ValueError: if there is no such column, or fewer than the grid has axes.
    """
    names = source.rows.gate_names
    if not names:
        raise ValueError(
            "`result` must be of a gate with inputs; got one that reads no column. Plot `plot_weights_forest`, or pass "
            "`gate_x` to the fit."
        )
    if len(features) > len(names) == 1 and len(set(features)) > 1:
        raise ValueError(
            f"`result` must be of a gate with two inputs for a map; got one, {names[0]}. Plot `plot_gate_curve`."
        )
    argument = "feature" if len(features) == 1 else "features"
    columns = [source.column(feature, of_gate=True, argument=argument) for feature in features]
    table = as_array(source.gate_x)
    values = [np.linspace(*limits(table[:, column]), n_points) for column in columns]
    rows = np.repeat(np.median(table, axis=0)[None], n_points ** len(columns), 0)
    rows[:, columns] = np.stack([part.ravel() for part in np.meshgrid(*values, indexing="ij")], 1)
    others = [name for column, name in enumerate(names) if column not in columns]
    held = f"{listed(others)} at {'its median' if len(others) == 1 else 'their medians'}" if others else ""
    held = held if source.mixture.gate.reads_inputs else "the gate reads no inputs"
    return Grid(values, torch.as_tensor(rows).to(source.gate_x), [drawn(names[column]) for column in columns], held)


def listed(names: Sequence[str]) -> str:
    """Return names in words as matplotlib draws them, of many the number.

    Args:
        names: of columns, at least one.
    """
    if len(names) > 3:
        return f"the other {len(names)} inputs"
    shown = [drawn(name) for name in names]
    return shown[0] if len(names) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
