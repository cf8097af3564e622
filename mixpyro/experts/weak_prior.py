"""Weak default priors of regressions and densities, on the location and scale of the data.

Count x and y from their locations, in units of their scales: x̃ = (x − x₀) / sₓ, ỹ = (y − y₀) / s_y. Every coefficient
of ỹ on [1, x̃], and every mean of ỹ, is Normal(0, (τ̃ · COEFFICIENT_PRECISION)⁻¹), and every noise has
τ̃ ~ Gamma(NOISE_SHAPE, NOISE_RATE). So the prior of a coefficient is worth a thousandth of an object, that of a noise
three, and before it has seen an object a component predicts ỹ with a standard deviation of about two. In the units of
the data the same priors have the means 0 and y₀, the precisions COEFFICIENT_PRECISION · sₓ² and the rates
NOISE_RATE · s_y².
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.numerics.location_scale import LocationScale, location_scale
from mixpyro.shapes import Inputs, Outputs

# Objects that the prior of a coefficient or a mean is worth.
COEFFICIENT_PRECISION = 1e-3
# Half the objects that the prior of a noise is worth. Above 1, an empty component's predictions have a variance.
NOISE_SHAPE = 1.5
# Of the squared scale of y: a noise is at least sensible down to a hundredth of that scale.
NOISE_RATE = 1e-3


class DataScales(NamedTuple):
    """Location and scale of every column of x and y, in which default priors are expressed."""

    x: LocationScale
    y: LocationScale

    @classmethod
    def of(cls, x: Inputs, y: Outputs, weights: Tensor | None = None, *, from_zero: bool = False) -> "DataScales":
        """Return those of data; see :func:`mixpyro.numerics.location_scale.location_scale`.

        Args:
            x: inputs [N, D].
            y: outputs [N, P].
            weights: how much each row counts [N]; None where each counts once.
            from_zero: whether the locations are zero, as for regressions without an intercept.
        """
        return cls(location_scale(x, weights, from_zero=from_zero), location_scale(y, weights, from_zero=from_zero))


def checked_scales(value: object, n_features: int, n_outputs: int) -> DataScales | None:
    """Return the scales if they are two pairs of vectors, or None if none are given.

    Args:
        value: ((location of x [D], scale of x [D]), (location of y [P], scale of y [P])), or None.
        n_features: D.
        n_outputs: P.

    Raises:
        TypeError: if it is no such pair, or not made of numbers.
        ValueError: if a length does not fit, or a scale is not positive.
    """
    if value is None:
        return None
    pairs = isinstance(value, Sequence) and len(value) == 2 and all(isinstance(p, Sequence) for p in value)
    if not pairs or any(len(pair) != 2 for pair in value):  # type: ignore[attr-defined]
        raise TypeError(f"`scales` must be (location, scale) of x, then of y; got {value!r}.")
    sizes = zip(("x", "y"), value, (n_features, n_outputs), strict=True)  # type: ignore[call-overload]
    return DataScales(*(_checked_pair(f"scales.{name}", pair, size) for name, pair, size in sizes))


def _checked_pair(name: str, pair: Sequence[object], size: int) -> LocationScale:
    """Return location and scale as float64 vectors."""
    if size == 0:
        nothing = torch.zeros(0, dtype=torch.float64, device="cpu")
        return LocationScale(nothing, nothing)
    location = arguments.vector(f"{name}.location", pair[0], size)
    return LocationScale(location, arguments.positive_vector(f"{name}.scale", pair[1], size))  # type: ignore[arg-type]


def words(values: Tensor) -> str:
    """Return numbers in a few digits, one number where all are equal, at most six.

    Args:
        values: of any shape.
    """
    flat = values.detach().flatten().tolist()
    if len(set(flat)) == 1:
        return f"{flat[0]:.4g}"
    return f"[{', '.join(f'{value:.4g}' for value in flat[:6])}{', …' if len(flat) > 6 else ''}]"


def filled_in(given: tuple[Any, Any], defaults: tuple[float, float]) -> Iterator[Any]:
    """Yield each value, or its default where it is None.

    Args:
        given: what a user passed.
        defaults: of each.
    """
    return (default if value is None else value for value, default in zip(given, defaults, strict=True))
