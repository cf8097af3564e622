"""Concentrations that may have a prior with an analytic posterior."""

import torch
from pyro.distributions import Gamma
from torch.distributions import Distribution

from mixpyro.arguments.numbers import positive_number
from mixpyro.arguments.torch_contexts import normal

# log Γ(α) has a rounding error of α log α times 2e-16 nats; at the least, 1 / α is still a number.
LEAST, LARGEST = 1e-300, 1e10


def concentration(value: object, *, discount: float) -> float | Gamma:
    """Return the concentration of a stick if it is a number or a Gamma distribution, the latter without a discount.

    Args:
        value: of the argument ``concentration``.
        discount: of the process; with one, a number may be zero.

    Raises:
        TypeError: if it is neither a number nor one Gamma distribution.
        ValueError: if it is too small or too large a number, or a distribution where there is a discount.
    """
    if not isinstance(value, Distribution):
        return _within_precision(positive_number("concentration", value, zero=discount > 0.0))
    if not isinstance(value, torch.distributions.Gamma) or value.batch_shape or value.event_shape:
        raise TypeError(f"`concentration` must be a number or one Gamma distribution; got {value}.")
    if discount > 0.0:
        raise ValueError(
            f"`concentration` must be a number where `discount` is above zero; got {value}. Its posterior has no "
            "closed form then: set `discount=0`, or compare the bounds of several numbers."
        )
    shape, rate = (normal(parameter).detach().double() for parameter in (value.concentration, value.rate))
    _within_precision(float(shape / rate))
    return Gamma(shape, rate)


def _within_precision(number: float) -> float:
    """Return a concentration whose log Gamma functions differ by more than rounding where objects are added to it."""
    if number > LARGEST:
        raise ValueError(f"`concentration` must be at most {LARGEST:.0e}, and so must its mean; got {number}.")
    if 0.0 < number < LEAST:
        raise ValueError(f"`concentration` must be at least {LEAST:.0e}, and so must its mean; got {number}.")
    return number
