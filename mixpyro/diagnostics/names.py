"""What the axes of arrays are called: objects, features, outputs, components."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor


@runtime_checkable
class Table(Protocol):
    """A pandas DataFrame, or what has the same attributes."""

    columns: Any
    index: Any

    def to_numpy(self, dtype: Any = ...) -> np.ndarray:  # noqa: ANN401 (as pandas has it)
        """The values."""
        ...


class Named(NamedTuple):
    """Rows as a tensor, with what the columns and rows are called."""

    values: Tensor  # [N, …]
    columns: list[str]
    rows: np.ndarray  # [N]


def named(values: Tensor | Table, columns: Sequence[str] | None, *, argument: str, prefix: str) -> Named:
    """A table's own names; those given, or numbered ones, for a tensor. A table becomes float64.

    Raises:
        ValueError: if the number of names is not that of columns.
    """
    if isinstance(values, Tensor):
        tensor, own, rows = values, None, np.arange(len(values))
    else:
        tensor = torch.tensor(values.to_numpy(dtype=np.float64))
        own, rows = [str(column) for column in values.columns], np.asarray(values.index)
    n_columns = tensor.shape[1] if tensor.ndim > 1 else 1
    found = own if columns is None else list(columns)
    found = [f"{prefix}{number}" for number in range(n_columns)] if found is None else found
    if len(found) != n_columns:
        raise ValueError(f"`{argument}` must be {n_columns} names, one a column; got {len(found)}.")
    return Named(tensor, found, rows)


def coordinates(
    *,
    n_components: int,
    objects: np.ndarray,
    features: Sequence[str] = (),
    n_regressors: int | None = None,
    gate_features: Iterable[str] = (),
    outputs: Iterable[str] = (),
) -> dict[str, np.ndarray]:
    """What stands along each axis; ``regressor`` is an intercept and the first features, all of them by default."""
    return {
        "component": np.arange(n_components),
        "object": objects,
        "feature": np.array(list(features), dtype=np.str_),
        "gate_feature": np.array(list(gate_features), dtype=np.str_),
        "output": np.array(list(outputs), dtype=np.str_),
        "regressor": np.array(["intercept", *list(features)[:n_regressors]], dtype=np.str_),
    }


def site_axes(
    site: str, shape: Sequence[int], axes: Mapping[str, tuple[str, ...]], lengths: Mapping[str, np.ndarray]
) -> tuple[str, ...]:
    """Names of the axes of a site's value, as its module says or, where that does not fit, numbered.

    Args:
        site: full name, as in ``experts.coefficients``.
        shape: of one draw.
        axes: by the last part of the name.
        lengths: the coordinates. An axis ``regressor`` as long as there are features has no intercept.
    """
    known = axes.get(site.rsplit(".", 1)[-1], ("component",))
    found = []
    for number, length in enumerate(shape):
        name = known[number] if number < len(known) else ""
        if name == "regressor" and length == len(lengths["feature"]):
            name = "feature"
        fits = name in lengths and len(lengths[name]) == length
        found.append(name if fits and name not in found else f"{site}_dim_{number}")
    return tuple(found)
