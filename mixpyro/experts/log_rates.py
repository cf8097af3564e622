"""Rates of counts with a log link, and the check of counts."""

from torch import Tensor

from mixpyro import arguments
from mixpyro.numerics.count_densities import LARGEST_LOG_RATIO


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
