"""Grids over some inputs, and the posterior's draws on them, for the plots of gates and experts."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mixpyro.diagnostics.arviz_versions import ArvizData, Dataset, datasets_of, group
from mixpyro.diagnostics.assignments import posterior_sites
from mixpyro.diagnostics.conditioning import Conditioned, conditioned_in_turn
from mixpyro.diagnostics.observations import Observations
from mixpyro.mixture import MixtureOfExperts


class Grid(NamedTuple):
    """Rows on a grid over some features, with the other inputs at their medians."""

    values: list[np.ndarray]  # coordinates along each feature
    x: Tensor  # what the experts read [G, D]
    gate_x: Tensor  # what the gate reads [G, …]
    labels: list[str]  # names of the features


def grid(data: ArvizData, features: Sequence[int], n_points: int, *, of_gate: bool) -> Grid:
    """Return a grid over the range of some inputs.

    Args:
        data: result of :func:`mixpyro.to_arviz`.
        features: numbers of the columns, from 0.
        n_points: number of points along each.
        of_gate: whether the columns are those that the gate reads, rather than those of x.

    Raises:
        ValueError: if there is no such column.
    """
    constants = group(data, "constant_data")
    own = "gate_x" if of_gate and "gate_x" in constants else "x"
    table, names = constants[own].values, [str(name) for name in constants[own].coords[constants[own].dims[1]].values]
    if max(features) >= table.shape[1]:
        raise ValueError(f"`feature` must be below {table.shape[1]}, the number of columns; got {max(features)}.")
    values = [np.linspace(table[:, one].min(), table[:, one].max(), n_points) for one in features]
    points = np.stack([part.ravel() for part in np.meshgrid(*values, indexing="ij")], 1)
    rows = _medians(constants, len(points))
    rows[own][:, list(features)] = points
    x = torch.tensor(rows["x"], device="cpu")
    return Grid(
        values,
        x,
        torch.tensor(rows["gate_x"], device="cpu") if "gate_x" in rows else x,
        [names[one] for one in features],
    )


def some_draws(
    data: ArvizData, mixture: MixtureOfExperts, points: Grid, *, most_draws: int
) -> Iterator[tuple[Conditioned, int]]:
    """Yield the model on a grid at some of evenly spaced draws, and how many.

    Args:
        data: result of :func:`mixpyro.to_arviz`.
        mixture: that the draws are from.
        points: the grid.
        most_draws: twice this number are used at most, at least 1.
    """
    x = mixture.experts.check_inputs(points.x)
    sites, n_draws = posterior_sites(data, Observations(mixture, x, x, points.gate_x))
    step = max(1, n_draws // most_draws)
    some = {name: values[::step] for name, values in sites.items()}
    n_some = len(range(0, n_draws, step))
    yield from conditioned_in_turn(mixture, x, points.gate_x, some, n_some)


def has_draws(data: ArvizData, prefix: str) -> bool:
    """Whether the posterior has draws of a gate's or experts' sites.

    Args:
        data: result of :func:`mixpyro.to_arviz`.
        prefix: of the sites, such as ``gate.``.
    """
    posterior = datasets_of(data).get("posterior", {})
    return any(str(name).startswith(prefix) for name in posterior)


def _medians(constants: Dataset, n_rows: int) -> dict[str, np.ndarray]:
    """Return rows of the medians of x and, if the gate has its own, of its inputs."""
    return {
        name: np.repeat(np.median(constants[name].values, axis=0)[None], n_rows, 0)
        for name in ("x", "gate_x")
        if name in constants
    }
