"""What all pictures share: colours that colour-blind readers tell apart, and axes. No global setting is changed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.legend import Legend
from torch import Tensor

from mixpyro.diagnostics.arviz_versions import ArvizData, datasets_of, group

# Okabe and Ito's, with wine and grey for its yellow and black: those vanish on white, or read as text.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#7F7F7F")
LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (3, 1, 1, 1)), (0, (2, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def colour(component: int) -> str:
    """Of a component; the ninth has the first's again, but another dash."""
    return COLOURS[component % len(COLOURS)]


def dashes(component: int) -> str | tuple[int, tuple[int, ...]]:
    """Of a component's line."""
    return LINES[(component + component // len(COLOURS)) % len(LINES)]


def axes_or_new(ax: Axes | None, *, size: tuple[float, float] = (5.5, 3.6)) -> Axes:
    """The axes given, or those of a new figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot

    _, new = matplotlib.pyplot.subplots(figsize=size, layout="constrained")
    return new


def plain(ax: Axes) -> Axes:
    """Without the lines above and on the right."""
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def legend(ax: Axes, n_entries: int, *, title: str | None = "Component") -> Legend:
    """Beside the axes, where it covers nothing."""
    columns = 1 if n_entries <= 12 else 2
    return ax.legend(
        title=title, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, ncols=columns, alignment="left"
    )


class Grid(NamedTuple):
    """Rows along some features, the others at their medians."""

    values: list[np.ndarray]  # the coordinates along each feature
    x: Tensor  # what the experts see [G, D]
    gate_x: Tensor  # what the gate sees [G, …]
    labels: list[str]


def grid(data: ArvizData, features: Sequence[int], n_points: int, *, of_gate: bool) -> Grid:
    """A grid over the range of the features, of the gate's inputs or the experts'."""
    constants = group(data, "constant_data")
    own = "gate_x" if of_gate and "gate_x" in constants else "x"
    table, names = constants[own].values, [str(name) for name in constants[own].coords[constants[own].dims[1]].values]
    if max(features) >= table.shape[1]:
        raise ValueError(f"`feature` must be below {table.shape[1]}, the number of columns; got {max(features)}.")
    values = [np.linspace(table[:, one].min(), table[:, one].max(), n_points) for one in features]
    points = np.stack([part.ravel() for part in np.meshgrid(*values, indexing="ij")], 1)
    rows = {
        name: np.repeat(np.median(constants[name].values, axis=0)[None], len(points), 0)
        for name in ("x", "gate_x")
        if name in constants
    }
    rows[own][:, list(features)] = points
    x = torch.tensor(rows["x"])
    return Grid(values, x, torch.tensor(rows["gate_x"]) if "gate_x" in rows else x, [names[one] for one in features])


def has_draws(data: ArvizData, prefix: str) -> bool:
    """Whether the posterior holds draws of a part's sites."""
    posterior = datasets_of(data).get("posterior", {})
    return any(str(name).startswith(prefix) for name in posterior)
