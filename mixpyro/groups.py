"""Which group each row belongs to: all rows of a group have one component."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from mixpyro import arguments
from mixpyro.numerics.segments import Segments

# How to say that every row is a group of its own.
ROWS_ALONE = "range(len(x))"


@dataclass(frozen=True, eq=False)
class Groups:
    """The group of each of N rows; groups are numbered in the order in which they first appear.

    Attributes:
        ids: what the caller calls each of the G groups, in that order.
        index: number of the group of each row [N], from 0 to G − 1.

    Example:
        >>> groups = Groups.of(["b", "a", "b"])
        >>> groups.ids, groups.index.tolist(), groups.sum(torch.tensor([1.0, 2.0, 4.0])).tolist()
        (('b', 'a'), [0, 1, 0], [5.0, 2.0])
    """

    ids: tuple[Hashable, ...] = field(repr=False)
    index: Int[Tensor, " N"] = field(repr=False)

    @classmethod
    @arguments.declared
    def of(cls, ids: object, *, like: Tensor | None = None) -> "Groups":
        """Return the groups of rows.

        Args:
            ids: an id for each row [N]: a tensor or array of numbers, or a sequence or column of hashable values.
            like: a tensor [N, …] with the rows, on the device that the groups shall be on.

        Raises:
            TypeError: if it is no sequence, or an id cannot be hashed.
            ValueError: if there is not one for each row, or one is NaN or None.
        """
        with arguments.renamed(groups="ids"):
            return groups_of(ids, like=like)

    def __len__(self) -> int:
        """G, the number of groups."""
        return len(self.ids)

    def __repr__(self) -> str:
        """Say how many there are."""
        return f"Groups({len(self)} groups of {len(self.index)} rows)"

    def __deepcopy__(self, memo: object) -> "Groups":
        return self

    @property
    def are_rows(self) -> bool:
        """Whether every row is a group of its own."""
        return len(self) == len(self.index)

    @cached_property
    def order(self) -> Int[Tensor, " N"] | None:
        """Rows in the order of their groups [N]; None where they are in it."""
        if bool((self.index[1:] >= self.index[:-1]).all()):
            return None
        return self.index.argsort(stable=True)

    @cached_property
    def first_rows(self) -> Int[Tensor, " G"]:
        """Number of the first row of each group [G]."""
        order = torch.arange(len(self.index), device=self.index.device) if self.order is None else self.order
        return order[self.segments.ends - self.segments.sizes]

    @cached_property
    def segments(self) -> Segments:
        """The groups as segments of the rows in :attr:`order`."""
        return Segments(torch.bincount(self.index, minlength=len(self)))

    @arguments.declared
    def sorted(self, rows: Tensor) -> Tensor:
        """Return rows in the order of their groups.

        Args:
            rows: [N, …].
        """
        self._check("rows", rows, len(self.index))
        return rows if self.order is None else rows[self.order]

    @arguments.declared
    @arguments.explained
    def sum(self, values: Tensor) -> Tensor:
        """Return sums over the rows of each group [..., G], as of log densities of rows for one ``pyro.factor``.

        Args:
            values: [..., N].
        """
        self._check("values", values, len(self.index), axis=-1)
        total = values.new_zeros(*values.shape[:-1], len(self))
        return total.index_add(-1, self.index, values)

    @arguments.declared
    def spread(self, values: Tensor) -> Tensor:
        """Return for each row what its group has [N, …], as rows of responsibilities.

        Args:
            values: [G, …].
        """
        self._check("values", values, len(self))
        return values[self.index]

    @arguments.declared
    def shared(self, name: str, values: Tensor) -> Tensor:
        """Return for each group what all of its rows have [G, …].

        Args:
            name: of the argument, for the message.
            values: [N, …].

        Raises:
            ValueError: if rows of a group differ, or the name is empty.
        """
        if not name.strip():
            raise ValueError(f"`name` must be the name of an argument; got {arguments.shown(name)}.")
        self._check(name, values, len(self.index))
        of_groups = values[self.first_rows]
        differs = (values != of_groups[self.index]).reshape(len(values), -1).any(-1)
        if bool(differs.any()):
            row = int(differs.nonzero()[0])
            group = self.ids[int(self.index[row])]
            raise ValueError(
                f"`{name}` must be the same in all rows of a group; got rows of group "
                f"{arguments.shown(group)} that differ, row {row} among them."
            )
        return of_groups

    @arguments.declared
    def same_as(self, other: "Groups | None") -> bool:
        """Return whether the rows are grouped alike, under the same ids.

        Args:
            other: of the same rows, perhaps.
        """
        if other is None or self.ids != other.ids:
            return False
        return torch.equal(self.index, other.index.to(self.index.device))

    @staticmethod
    def _check(name: str, values: Tensor, length: int, *, axis: int = 0) -> None:
        """Raise ValueError if an axis has another length, TypeError if the numbers cannot be read."""
        arguments.a_tensor(name, values)
        if not values.ndim or values.shape[axis] != length:
            which = "first" if axis == 0 else "last"
            raise ValueError(f"`{name}` must have {length} values along its {which} axis; got {list(values.shape)}.")


# An id of the group of each row, as a caller may pass it: an array, a tensor, a column, a list.
GroupIds: TypeAlias = Groups | Tensor | Iterable[Hashable]


def groups_of(groups: object, *, like: object = None) -> Groups:
    """Return the groups of rows, for a function whose argument is called ``groups``.

    Args:
        groups: an id for each row [N], or groups.
        like: as for :meth:`Groups.of`.

    Raises:
        TypeError: as :meth:`Groups.of`.
        ValueError: likewise.
    """
    if isinstance(groups, Groups):
        found = groups
    else:
        plain = arguments.in_memory("groups", groups) if isinstance(groups, range) else groups
        found = Groups(*(_of_numbers if _is_numeric(plain) else _of_values)(plain))
    if like is None:
        return found
    if not isinstance(like, Tensor):
        raise TypeError(f"`like` must be a torch.Tensor; got {type(like).__name__}.")
    like = arguments.dense("like", like)
    if not like.ndim:
        raise ValueError(f"`like` must have rows; got shape {list(like.shape)}.")
    if len(found.index) != len(like):
        raise ValueError(f"`groups` must have an id for each of {len(like)} rows; got {len(found.index)}.")
    return found if found.index.device == like.device else Groups(found.ids, found.index.to(like.device))


def _is_numeric(ids: object) -> bool:
    """Return whether ids are numbers in an array, which are numbered without a loop over rows."""
    if isinstance(ids, Tensor):
        return True
    kind = getattr(ids, "dtype", None)
    return isinstance(kind, np.dtype) and kind.kind in "biuf"


def _of_numbers(ids: object) -> tuple[tuple[Hashable, ...], Tensor]:
    """Return ids and index of an array of numbers."""
    if isinstance(ids, Tensor):
        values = arguments.array_of("groups", ids)
    else:
        values = np.asarray(ids)
    _check_shape(values.shape)
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ValueError(f"`groups` must have an id for each row; got NaN in {int(np.isnan(values).sum())} rows.")
    kinds, first, number = np.unique(values, return_index=True, return_inverse=True)
    place = np.empty(len(kinds), dtype=np.int64)
    by_appearance = np.argsort(first)
    place[by_appearance] = np.arange(len(kinds))
    return tuple(kinds[by_appearance].tolist()), torch.from_numpy(place[number.reshape(-1)])


def _of_values(ids: object) -> tuple[tuple[Hashable, ...], Tensor]:
    """Return ids and index of a sequence of hashable values."""
    no_column = isinstance(ids, str | bytes | type | nn.Module)
    if no_column or not (hasattr(ids, "__len__") and arguments.is_iterable(ids)):
        raise TypeError(f"`groups` must be a sequence with an id for each row; got {type(ids).__name__}.")
    if len(getattr(ids, "shape", (0,))) != 1:
        _check_shape(tuple(ids.shape))  # type: ignore[attr-defined]
    numbers: dict[Hashable, int] = {}
    index = []
    one: Any
    for row, one in enumerate(ids):  # type: ignore[arg-type]
        if isinstance(one, Tensor) and one.ndim == 0:
            one = arguments.dense("groups", one).item()
        if isinstance(one, Tensor):
            raise TypeError(f"`groups` must have hashable ids; got shape {list(one.shape)} in row {row}.")
        try:
            index.append(numbers.setdefault(one, len(numbers)))
        except TypeError:
            raise TypeError(f"`groups` must have hashable ids; got {type(one).__name__} in row {row}.") from None
        if _is_missing(one):
            raise ValueError(f"`groups` must have an id for each row; got {arguments.shown(one)} in row {row}.")
    _check_shape((len(index),))
    return tuple(numbers), torch.tensor(index, dtype=torch.long, device="cpu")


def _is_missing(one: Hashable) -> bool:
    """Return whether an id is None, NaN, or pandas' NA, which is neither equal to itself nor different."""
    try:
        return one is None or bool(one != one)
    except TypeError:
        return True


def _check_shape(shape: Sequence[int]) -> None:
    """Raise unless there is one axis, which is not empty."""
    if len(shape) != 1 or shape[0] == 0:
        raise ValueError(f"`groups` must have shape [N], an id for each row; got {list(shape)}.")
