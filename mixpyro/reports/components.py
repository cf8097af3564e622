"""The components of a fit: how many objects each has."""

from typing import NamedTuple

import torch

from mixpyro.fitting.result import FitResult
from mixpyro.reports.named_rows import NamedRows


class Component(NamedTuple):
    """A component of a fit."""

    share: float  # of the objects, by their responsibilities
    objects: float  # number of objects, each times its weight and responsibility
    most_probable: int  # of this process's objects, number that are most probably of it, without those of weight zero


def components(result: FitResult) -> NamedRows[Component]:
    """Return the share and the size of each component.

    Args:
        result: of a fit.
    """
    counts, total = result.counts, float(result.counts.sum())
    labels = result.shares.argmax(-1)
    labels = labels if result.weights is None else labels[result.weights > 0]
    sizes = torch.bincount(labels, minlength=len(counts)).tolist()
    return NamedRows(
        {f"component {k}": Component(float(counts[k]) / total, float(counts[k]), sizes[k]) for k in range(len(counts))}
    )
