"""Weak default priors of regressions and densities, on the location and scale of the data.

Count x and y from their locations, in units of their scales: x̃ = (x − x₀) / sₓ, ỹ = (y − y₀) / s_y. Coefficients of ỹ
on [1, x̃] are Normal(0, (τ̃ · COEFFICIENT_PRECISION · R)⁻¹) with R the correlation of the columns of x, means of ỹ are
Normal(0, (τ̃ · COEFFICIENT_PRECISION)⁻¹), and every noise has τ̃ ~ Gamma(NOISE_SHAPE, NOISE_RATE). A full covariance has
the correlation of y for its scale. So the prior of a coefficient is worth three thousandths of an object, that of a
noise three, and before it has seen an object a component predicts ỹ with a standard deviation of one to two. Where some
rows lie far from the others, the precision of intercepts and means is less, by the square of how far. In the units of
the data the same priors have the means 0 and y₀, the precisions COEFFICIENT_PRECISION · sₓ R sₓ and the rates
NOISE_RATE · s_y². Without an intercept, coefficients are counted from those that predict y₀.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.numerics.location_scale import NEAR, ColumnScales, column_scales, sample_of
from mixpyro.shapes import Inputs, Outputs

# Objects that the prior of a coefficient or a mean is worth.
COEFFICIENT_PRECISION = 3e-3
# Half the objects that the prior of a noise is worth. Above 1, an empty component's predictions have a variance.
NOISE_SHAPE = 1.5
# Of the squared scale of y. Smaller rates let components of a few rows that lie close together win: at 1e-4, five of
# twelve draws of three clear clusters of 25 rows were lost. Larger ones inflate small noises: with this one and fifty
# objects a noise of a tenth of the scale is right, one of a hundredth half as large again, of which a caution tells.
NOISE_RATE = 3e-3


class DataScales(NamedTuple):
    """Location and scale of every column of x and y, in which default priors are expressed."""

    x: ColumnScales
    y: ColumnScales
    constant: Tensor | None = None  # without an intercept, coefficients of x that come closest to 1 in every row [D]

    @property
    def reach(self) -> Tensor:
        """How many scales y reaches where some rows lie far from the others."""
        return self.y.reach.max()

    @classmethod
    def of(cls, x: Inputs, y: Outputs, weights: Tensor | None = None, *, from_zero: bool = False) -> "DataScales":
        """Return those of data; see :func:`mixpyro.numerics.location_scale.column_scales`.

        Args:
            x: inputs [N, D].
            y: outputs [N, P].
            weights: how much each row counts [N]; None where each counts once.
            from_zero: whether x is counted from zero, as for regressions without an intercept.
        """
        of_x, of_y = column_scales(x, weights, from_zero=from_zero), column_scales(y, weights)
        return cls(of_x, of_y, closest_to_one(x, of_x.scale) if from_zero else None)


def checked_scales(value: object, n_features: int, n_outputs: int) -> DataScales | None:
    """Return the scales if they are two pairs of vectors, or None if none are given.

    Args:
        value: ((location of x [D], scale of x [D]), (location of y [P], scale of y [P])), or a :class:`DataScales`.
        n_features: D.
        n_outputs: P.

    Raises:
        TypeError: if it is no such pair, or not made of numbers.
        ValueError: if a length does not fit, or a scale is not positive.
    """
    if value is None:
        return None
    pairs = isinstance(value, Sequence) and len(value) in (2, 3)
    if not pairs or not all(isinstance(pair, Sequence) and len(pair) in (2, 4) for pair in value[:2]):  # type: ignore[index]
        raise TypeError(f"`scales` must be (location, scale) of x, then of y; got {arguments.shown(value)}.")
    of_x = _checked_pair("scales.x", value[0], n_features)  # type: ignore[index]
    of_y = _checked_pair("scales.y", value[1], n_outputs)  # type: ignore[index]
    constant = value[2] if len(value) == 3 else None  # type: ignore[arg-type, index]
    return DataScales(
        of_x, of_y, None if constant is None else arguments.vector("scales.constant", constant, n_features)
    )


def _checked_pair(name: str, pair: Sequence[Any], size: int) -> ColumnScales:
    """Return location and scale as float64 vectors; columns that are given alone are uncorrelated."""
    ones = torch.ones(size, dtype=torch.float64, device="cpu")
    if size == 0:
        return ColumnScales(ones, ones, ones.diag(), ones)
    location = arguments.vector(f"{name}.location", pair[0], size)
    scale = arguments.positive_vector(f"{name}.scale", pair[1], size)
    if len(pair) == 2:
        return ColumnScales(location, scale, ones.diag(), ones)
    correlation = arguments.positive_definite(f"{name}.correlation", pair[2], size)
    return ColumnScales(location, scale, correlation, arguments.positive_vector(f"{name}.reach", pair[3], size))


def closest_to_one(x: Inputs, scale: Tensor) -> Tensor:
    """Return the coefficients [D] whose predictions x a come closest to 1 in every row, by least squares.

    Args:
        x: inputs [N, D]; a sample of them is looked at where there are many.
        scale: of the columns from zero [D].
    """
    x, _ = sample_of(x, None)
    standard = (x.double() / scale).clamp(-NEAR, NEAR)
    gram = standard.mT @ standard
    ridge = 1e-10 * float(len(x)) * torch.eye(len(scale), dtype=gram.dtype, device=gram.device)
    solved: Tensor = torch.linalg.solve(gram + ridge, standard.sum(0)) / scale
    return solved


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
