"""Rates of counts with a log link, and the check of counts."""

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro import arguments
from mixpyro.numerics.count_densities import LARGEST_LOG_RATIO
from mixpyro.shapes import Responsibilities

# Counts that a component has at least, so that its rate has a logarithm.
FEWEST_COUNTS = 0.5


def log_rate(eta: Tensor, exposure: Tensor) -> Tensor:
    """Return η + log exposure, float64.

    Args:
        eta: linear predictors η [..., C].
        exposure: above 0, of a shape that broadcasts.
    """
    return eta.double() + exposure.double().log()


def finite_rate(eta: Tensor, exposure: Tensor) -> Tensor:
    """Return the rate, or the largest one that derivatives are computed for, float64.

    Args:
        eta: linear predictors η [..., C].
        exposure: above 0, of a shape that broadcasts.
    """
    return log_rate(eta, exposure).clamp_max(LARGEST_LOG_RATIO).exp()


def log_common_rates(y: Tensor, exposure: Tensor, responsibilities: Responsibilities) -> Float[Tensor, "K 1"]:
    """Return the log of counts per exposure in every component, float64: finite without counts or rows, too.

    Args:
        y: counts [N, 1].
        exposure: above 0, [N, 1, 1] or of a shape that broadcasts to it.
        responsibilities: [N, K].
    """
    r = responsibilities.double()
    counts, exposures = (r * y.double()).sum(0), (r * exposure.double().squeeze(-1)).sum(0)
    found = ((counts + FEWEST_COUNTS) / exposures).log()
    return torch.where(found.isfinite(), found, 0.0).unsqueeze(-1)


def check_counts(y: Tensor) -> None:
    """Raise unless y holds whole numbers from zero on.

    Args:
        y: outputs [N, P].

    Raises:
        ValueError: if a value is no count.
    """
    if arguments.checks_values() and not bool(((y >= 0) & (y == y.floor())).all()):
        raise ValueError(
            f"`y` must hold whole numbers from 0 on; got values from {float(y.min()):g} to {float(y.max()):g}."
        )
