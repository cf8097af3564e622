"""Components that are known for some rows, or for the groups that these are in."""

import torch
from jaxtyping import Int
from torch import Tensor

from mixpyro import arguments
from mixpyro.groups import Groups
from mixpyro.shapes import Responsibilities

# What stands for a component that is not known.
UNKNOWN = -1


def checked_labels(observed: object, mask: object, *, n_components: int, like: Tensor) -> Int[Tensor, " N"] | None:
    """Return the component of every row, −1 where it is not known; None where none is.

    Args:
        observed: integers [N] from 0 to K − 1, any number where the mask is False; None for none.
        mask: where they are known, bool [N]; None for everywhere.
        n_components: K.
        like: a tensor [N, …] on the device of the rows.

    Raises:
        TypeError: if one is no tensor, or of another dtype.
        ValueError: if a shape, device or value does not fit, or there is a mask alone.
    """
    if observed is None:
        if mask is not None:
            raise ValueError("`mask` must be None without `observed`; got a mask. Pass the labels as `observed`.")
        return None
    labels = arguments.integers("observed", _of_rows("observed", observed, like))
    known = torch.ones_like(labels, dtype=torch.bool) if mask is None else _of_rows("mask", mask, like)
    if known.dtype != torch.bool:
        raise TypeError(f"`mask` must have dtype torch.bool; got {known.dtype}. Use mask.bool().")
    wrong = labels[known & ~((labels >= 0) & (labels < n_components))]
    if len(wrong):
        raise ValueError(
            f"`observed` must be from 0 to {n_components - 1} where it is known; got {int(wrong[0])} (rows out of "
            f"range: {len(wrong)}). Say by `mask` which rows are known."
        )
    return torch.where(known, labels, UNKNOWN) if bool(known.any()) else None


def labels_of_groups(labels: Int[Tensor, " N"], groups: Groups) -> Int[Tensor, " G"]:
    """Return the component of each group, known if that of one of its rows is; −1 where none is.

    Args:
        labels: [N], as :func:`checked_labels` returns them.
        groups: of the rows.

    Raises:
        ValueError: if rows of a group are known to be of two components.
    """
    none = labels.new_full((len(groups),), UNKNOWN)
    of_groups = none.scatter_reduce(0, groups.index, labels, "amax")
    wrong = ((labels != UNKNOWN) & (labels != of_groups[groups.index])).nonzero()
    if len(wrong):
        number = int(groups.index[wrong[0]])
        got = sorted(set(labels[groups.index == number].tolist()) - {UNKNOWN})
        raise ValueError(
            f"`observed` must have one component for a group; got {got} in group {arguments.shown(groups.ids[number])}."
        )
    return of_groups


def with_known(responsibilities: Responsibilities, labels: Tensor | None) -> Responsibilities:
    """Return responsibilities [N, K] that are certain where the component is known.

    Args:
        responsibilities: [N, K].
        labels: [N], as :func:`checked_labels` returns them.
    """
    if labels is None:
        return responsibilities
    certain = labels.unsqueeze(-1) == torch.arange(responsibilities.shape[-1], device=labels.device)
    return torch.where((labels >= 0).unsqueeze(-1), certain.to(responsibilities.dtype), responsibilities)


def all_known(labels: Tensor | None) -> bool:
    """Return whether the component of every row is known.

    Args:
        labels: [N], as :func:`checked_labels` returns them.
    """
    return labels is not None and bool((labels >= 0).all())


def _of_rows(name: str, value: object, like: Tensor) -> Tensor:
    """Return a tensor [N] on the device of the rows."""
    if not isinstance(value, Tensor):
        raise TypeError(f"`{name}` must be a torch.Tensor; got {type(value).__name__}. Use torch.as_tensor({name}).")
    value = arguments.dense(name, value)
    if value.shape != like.shape[:1]:
        raise ValueError(f"`{name}` must have shape [{len(like)}], a value for each row; got {list(value.shape)}.")
    return arguments.same_device(name, arguments.normal(value), like.device)
