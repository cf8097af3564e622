"""A mixture of the components that have objects."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from mixpyro.experts.base import Experts
from mixpyro.mixture import ExpertsPart, GatePart, MixtureOfExperts
from mixpyro.pyro_internals.names import module_name

# Objects of which a component has fewer if it counts as empty.
LEAST_OBJECTS = 0.5


def with_components(
    mixture: MixtureOfExperts[GatePart, ExpertsPart], kept: Sequence[int]
) -> MixtureOfExperts[GatePart, ExpertsPart]:
    """Return a new mixture of some of the components, with their posteriors and estimates.

    Args:
        mixture: of K components, by a gate whose prior of the rest does not depend on how many there are.
        kept: their numbers, at least one, in the order wanted.

    Raises:
        ValueError: if the gate has another prior for fewer components, or the experts are made of networks.
    """
    gate = cast(GatePart, mixture.gate.with_components(kept))
    experts = cast(ExpertsPart, mixture.experts.with_components(kept))
    fewer = type(mixture)(gate, experts, name=module_name(mixture))
    fewer.fitted_columns = mixture.fitted_columns
    return fewer


def used_components(counts: Tensor, experts: Experts | None = None) -> list[int]:
    """Return the numbers of the components that have objects, the largest first, in each bank of experts.

    Where weights of rows are so small that no component has objects, that is the largest alone.

    Args:
        counts: number of objects in each component [K].
        experts: whose banks stay one after another; one bank by default.
    """
    order = counts.argsort(descending=True, stable=True).tolist()
    used = [k for k in order if float(counts[k]) >= LEAST_OBJECTS] or order[:1]
    firsts: list[int] = getattr(experts, "first_components", [0])
    return sorted(used, key=lambda k: sum(k >= first for first in firsts))


def renumbered(labels: Tensor, kept: Sequence[int]) -> Tensor:
    """Return known components by their numbers among those kept, −1 where none is known.

    Args:
        labels: known components [N].
        kept: numbers of the components kept, in their new order.
    """
    found = torch.full_like(labels, -1)
    for number, k in enumerate(kept):
        found[labels == k] = number
    return found
