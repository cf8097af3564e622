"""Components that are known for some rows: their q(z) is certain, and their weights enter the bound."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mixpyro import arguments
from mixpyro.mixture import MixtureOfExperts
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
    labels = _of_rows("observed", observed, like)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"`observed` must have an integer dtype; got {labels.dtype}. Use observed.long().")
    known = torch.ones_like(labels, dtype=torch.bool) if mask is None else _of_rows("mask", mask, like)
    if known.dtype != torch.bool:
        raise TypeError(f"`mask` must have dtype torch.bool; got {known.dtype}. Use mask.bool().")
    wrong = labels[known & ~((labels >= 0) & (labels < n_components))]
    if len(wrong):
        raise ValueError(
            f"`observed` must be from 0 to {n_components - 1} where it is known; got {int(wrong[0])} (rows out of "
            f"range: {len(wrong)}). Say by `mask` which rows are known."
        )
    return torch.where(known, labels.long(), UNKNOWN) if bool(known.any()) else None


def joint_of(
    mixture: MixtureOfExperts,
    columns: Any,  # noqa: ANN401 (a nest of tensors)
    labels: Tensor | None,
) -> tuple[Callable[..., Tensor], Any]:
    """Return a function like ``mixture.log_joint`` that is −∞ where a row is known to be of another component.

    Args:
        mixture: whose formula it is.
        columns: what the experts read of N rows.
        labels: [N], as :func:`checked_labels` returns them.

    Returns:
        The function, and the columns to call it with; without labels the mixture's own, and the columns as they are.
    """
    if labels is None:
        return mixture.log_joint, columns
    return functools.partial(_known_joint, mixture.log_joint), (labels, columns)


def _known_joint(
    log_joint: Callable[..., Tensor],
    gate_x: Tensor,
    columns: Any,  # noqa: ANN401
    state: Any = None,  # noqa: ANN401
    *,
    objects: Any = None,  # noqa: ANN401
) -> Tensor:
    """Return the log joint [..., K, N] without the components that a row is known not to be of."""
    labels, own = columns
    return without_others(log_joint(gate_x, own, state, objects=objects), labels)


def without_others(log_joint: Float[Tensor, "*R K N"], labels: Tensor) -> Float[Tensor, "*R K N"]:
    """Return log joint densities [..., K, N], −∞ where a row is known to be of another component.

    Args:
        log_joint: in nats.
        labels: [N], as :func:`checked_labels` returns them.
    """
    components = torch.arange(log_joint.shape[-2], device=labels.device).unsqueeze(-1)
    return log_joint.masked_fill((labels >= 0) & (labels != components), -math.inf)


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


def agreeing(responsibilities: Responsibilities, labels: Tensor | None) -> Responsibilities:
    """Return responsibilities with the components in the order that agrees best with what is known.

    A start finds groups in any order. The group that most of the rows of a component lie in shall be the component.

    Args:
        responsibilities: [N, K].
        labels: [N], as :func:`checked_labels` returns them.
    """
    if labels is None:
        return responsibilities
    from scipy.optimize import linear_sum_assignment  # Imported here because the import takes long.

    certain = with_known(torch.zeros_like(responsibilities), labels).double()
    shared = (certain.mT @ responsibilities.double()).cpu().numpy()
    # Components without known rows, and ties, stay where they are.
    stays = np.eye(len(shared)) * (1e-9 * (1.0 + shared.sum()))
    _, order = linear_sum_assignment(shared + stays, maximize=True)
    return responsibilities[:, torch.as_tensor(order, device=responsibilities.device)]


def all_known(labels: Tensor | None) -> bool:
    """Return whether the component of every row is known.

    Args:
        labels: [N], as :func:`checked_labels` returns them.
    """
    return labels is not None and bool((labels >= 0).all())


def known_components(labels: Tensor | None, n_components: int) -> list[bool]:
    """Return whether each of K components has a row that is known to be of it.

    Args:
        labels: [N], as :func:`checked_labels` returns them.
        n_components: K.
    """
    present = set() if labels is None else set(labels.unique().tolist())
    return [k in present for k in range(n_components)]


def _of_rows(name: str, value: object, like: Tensor) -> Tensor:
    """Return a tensor [N] on the device of the rows."""
    if not isinstance(value, Tensor):
        raise TypeError(f"`{name}` must be a torch.Tensor; got {type(value).__name__}. Use torch.as_tensor({name}).")
    if value.shape != like.shape[:1]:
        raise ValueError(f"`{name}` must have shape [{len(like)}], a value for each row; got {list(value.shape)}.")
    return arguments.same_device(name, arguments.normal(value), like.device)
