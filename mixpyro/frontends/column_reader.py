"""Which columns of X a gate or experts read, and in which units."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro import arguments
from mixpyro.numerics.location_scale import LocationScale, location_scale
from mixpyro.shapes import Inputs

Columns = slice | np.ndarray | Sequence[int] | Sequence[bool] | Sequence[str] | None


def column_numbers(name: str, columns: Columns, feature_names: Sequence[str], n_features: int) -> list[int]:
    """Return the numbers of the columns that a user chose.

    Args:
        name: of the argument, for messages.
        columns: numbers, names, a slice, or a truth value for each column; None for all of them.
        feature_names: of the columns of X; empty where they have none.
        n_features: columns of X.

    Raises:
        TypeError: if they are none of these.
        ValueError: if there is no such column.
    """
    if columns is None or isinstance(columns, slice):
        return _in_slice(name, slice(None) if columns is None else columns, n_features)
    chosen: list[Any] = [columns] if isinstance(columns, str | int) else _listed(name, columns)
    if any(isinstance(column, str) for column in chosen):
        names = list(feature_names)
        absent = [column for column in chosen if column not in names]
        if absent:
            known = f"one of {names}" if names else "numbers, for X has no column names"
            raise ValueError(f"`{name}` must be {known}; got {arguments.shown(absent[0])}.")
        return [names.index(column) for column in chosen]
    if len(chosen) == n_features and all(isinstance(column, bool | np.bool_) for column in chosen):
        return [int(number) for number in np.flatnonzero(chosen)]
    numbers = [arguments.integer(name, column, least=-n_features) for column in chosen]
    outside = [number for number in numbers if not -n_features <= number < n_features]
    if outside:
        raise ValueError(f"`{name}` must be numbers of columns of X, which has {n_features}; got {outside[0]}.")
    return [number % n_features for number in numbers]


def _in_slice(name: str, columns: slice, n_features: int) -> list[int]:
    """Return the numbers of the columns in a slice."""
    try:
        return list(range(n_features))[columns]
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be a slice of integers; got {arguments.shown(columns)}.") from error


def _listed(name: str, columns: object) -> list[Any]:
    """Return columns in a list."""
    given = columns.tolist() if isinstance(columns, Tensor) and arguments.dense(name, columns).ndim else columns
    if isinstance(given, bytes | Mapping) or not arguments.is_iterable(given):
        raise TypeError(
            f"`{name}` must be numbers or names of columns, a slice or a mask; got {arguments.shown(columns)}."
        )
    return list(given)  # type: ignore[call-overload]


class ColumnReader(NamedTuple):
    """Some columns of X, in units of their scales where there are any."""

    numbers: list[int]
    scales: LocationScale | None = None

    @classmethod
    def standardising(cls, numbers: list[int], x: Inputs, weights: Float[Tensor, " N"] | None) -> "ColumnReader":
        """Return a reader that counts columns from their medians, in units of their scales.

        Args:
            numbers: of the columns.
            x: rows whose location and scale it takes [N, D].
            weights: how much each row counts [N]; None where each counts once.
        """
        return cls(numbers, location_scale(x[:, numbers], weights))

    def __call__(self, x: Inputs) -> Inputs:
        """Return the columns of rows.

        Args:
            x: [N, D].
        """
        chosen = x[:, self.numbers]
        return chosen if self.scales is None else (chosen - self.scales.location) / self.scales.scale


def as_tensor(array: Float[np.ndarray, "*axes"]) -> Float[Tensor, "*axes"]:
    """Return a float64 copy of an array, which may be read-only or of any strides.

    Args:
        array: of numbers.
    """
    # NumPy calls a single column contiguous whatever its strides, and PyTorch refuses negative ones.
    return torch.from_numpy(np.array(array, dtype=np.float64, order="C"))
