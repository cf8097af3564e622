"""Components that are known for some rows: their q(z) is certain, and their weights enter the bound."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.arguments.late_imports import imported
from mixpyro.labels import with_known
from mixpyro.mixture import MixtureOfExperts
from mixpyro.shapes import Responsibilities


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


def agreeing(responsibilities: Responsibilities, labels: Tensor | None) -> Responsibilities:
    """Return responsibilities with the components in the order that agrees best with what is known.

    A start finds groups in any order. The group that most of the rows of a component lie in shall be the component.

    Args:
        responsibilities: [N, K].
        labels: [N], as :func:`checked_labels` returns them.
    """
    if labels is None:
        return responsibilities
    certain = with_known(torch.zeros_like(responsibilities), labels).double()
    shared = (certain.mT @ responsibilities.double()).cpu().numpy()
    if not np.isfinite(shared).all():  # of rows too far for a density, of which the fit says so
        return responsibilities
    # Components without known rows, and ties, stay where they are.
    stays = np.eye(len(shared)) * (1e-9 * (1.0 + shared.sum()))
    _, order = imported("scipy.optimize").linear_sum_assignment(shared + stays, maximize=True)
    return responsibilities[:, torch.as_tensor(order, device=responsibilities.device)]


def known_components(labels: Tensor | None, n_components: int) -> list[bool]:
    """Return whether each of K components has a row that is known to be of it.

    Args:
        labels: [N], as :func:`checked_labels` returns them.
        n_components: K.
    """
    present = set() if labels is None else set(labels.unique().tolist())
    return [k in present for k in range(n_components)]
