"""Steps of Newton's method from sums over the rows, of many log likelihoods of linear predictors at once.

In an iteration of EM, derivatives of the rows' share of the bound are sums like any other: an E-step finds them at the
present coefficients, beside the responsibilities, and one step of Newton's method follows without another look at the
rows. That is the EM gradient algorithm, which converges as fast as EM does: Lange (1995), A gradient algorithm locally
equivalent to the EM algorithm, J. R. Statist. Soc. B 57, eq. 4.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro.distributed import rows as whole
from mixpyro.numerics.curvature import Curvature, Predictors, information_of
from mixpyro.numerics.extremes import least_of_columns, most_of_columns
from mixpyro.numerics.linear_predictors import MOST_CHANGE
from mixpyro.numerics.location_scale import location_scale
from mixpyro.numerics.newton import SMALLEST_GAIN, dense_step
from mixpyro.shapes import Inputs


class Standardisation(NamedTuple):
    """Location and scale of columns x, in which [1, x] is well conditioned: u = [1, (x − location) / scale]."""

    location: Tensor  # [D], float64
    scale: Tensor  # [D], float64, above zero
    reach: Tensor  # the largest |u| of each column [E], float64

    @classmethod
    def of(cls, x: Inputs) -> "Standardisation":
        """Return that of some rows, at least one.

        Args:
            x: inputs [N, D].
        """
        location, scale = location_scale(x)
        most, least = (whole.gathered(of(x).unsqueeze(0)) for of in (most_of_columns, least_of_columns))
        most, least = most.amax(0), least.amin(0)
        highest, lowest = most.double() - location, location - least.double()
        reach = torch.maximum(highest, lowest) / scale
        return cls(location, scale, torch.cat([reach.new_ones(1), reach]))

    def widened(self, x: Inputs) -> "Standardisation":
        """Return the same, with a reach that is that of more rows too.

        Args:
            x: inputs [N, D].
        """
        most = whole.gathered(most_of_columns(x).unsqueeze(0) if len(x) else x)
        least = whole.gathered(least_of_columns(x).unsqueeze(0) if len(x) else x)
        if not len(most):
            return self
        highest, lowest = most.amax(0).double() - self.location, self.location - least.amin(0).double()
        reach = torch.maximum(highest, lowest) / self.scale
        return self._replace(reach=torch.cat([self.reach[:1], torch.maximum(self.reach[1:], reach)]))

    @classmethod
    def none(cls, n_columns: int, device: torch.device) -> "Standardisation":
        """Return that of columns that are taken as they are.

        Args:
            n_columns: D.
            device: of the tensors.
        """
        ones = torch.ones(n_columns + 1, dtype=torch.float64, device=device)
        return cls(0.0 * ones[1:], ones[1:], ones)

    def design(self, columns: Float[Tensor, "D N"]) -> Float[Tensor, "E N"]:
        """Return u of some rows, float64.

        Args:
            columns: x', of any floating dtype.
        """
        scaled = (columns.double() - self.location.unsqueeze(-1)) / self.scale.unsqueeze(-1)
        return torch.cat([scaled.new_ones(1, columns.shape[1]), scaled])

    @property
    def transform(self) -> Float[Tensor, "E E"]:
        """T with u' = [1, x] T: coefficients of [1, x] are T times those of u."""
        matrix = torch.diag_embed(torch.cat([self.scale.new_ones(1), 1.0 / self.scale]))
        matrix[0, 1:] = -self.location / self.scale
        return matrix

    def standardised(self, coefficients: Float[Tensor, "*B E"]) -> Float[Tensor, "*B E"]:
        """Return coefficients of u from those of [1, x].

        Args:
            coefficients: with any leading axes.
        """
        coefficients = coefficients.double()
        intercept = coefficients[..., :1] + (coefficients[..., 1:] * self.location).sum(-1, keepdim=True)
        return torch.cat([intercept, coefficients[..., 1:] * self.scale], dim=-1)

    def original(self, coefficients: Float[Tensor, "*B E"]) -> Float[Tensor, "*B E"]:
        """Return coefficients of [1, x] from those of u; inverse of :meth:`standardised`.

        Args:
            coefficients: with any leading axes.
        """
        slopes = coefficients[..., 1:] / self.scale
        return torch.cat([coefficients[..., :1] - (slopes * self.location).sum(-1, keepdim=True), slopes], dim=-1)

    def furthest(self, step: Float[Tensor, "*B C E"]) -> Float[Tensor, "*B"]:
        """Return an upper bound on how far a step of coefficients of u changes a predictor of any row.

        Args:
            step: with any leading axes.
        """
        return (step.abs() * self.reach).sum(-1).amax(-1)


class NewtonSums(NamedTuple):
    """Derivatives of B log likelihoods in their Q = C E coefficients of u, float64: sums over the rows."""

    gradient: Tensor  # first derivatives [*B, Q]
    information: Tensor  # minus the second [*B, Q, Q]

    @classmethod
    def of(cls, score: Predictors, curvature: Curvature, design: Float[Tensor, "E N"]) -> "NewtonSums":
        """Return the sums of some rows.

        Args:
            score: first derivatives in the predictors of every row.
            curvature: minus their second derivatives.
            design: u of the rows.
        """
        gradient = score.flatten(1).mT @ design.mT
        return cls(gradient.unflatten(0, score.shape[1:]).flatten(1), information_of(curvature, design.mT))

    def step(self, counts: Float[Tensor, "*B"], standardisation: Standardisation) -> Float[Tensor, "*B Q"]:
        """Return Newton's steps; zero where they are no numbers.

        One that gains nothing beyond rounding may be of any length, and is shortened: no predictor changes by more than
        ``MOST_CHANGE``.

        Args:
            counts: total weight of the rows of each function.
            standardisation: of the columns.
        """
        shape, q = self.gradient.shape, self.gradient.shape[-1]
        gradient, information = self.gradient.reshape(-1, q), self.information.reshape(-1, q, q)
        step = dense_step(gradient, information.clone()).reshape(shape)
        # A product with zero is zero of a number alone.
        step = step.masked_fill((0.0 * step).sum(-1, keepdim=True) != 0.0, 0.0)
        gains = 0.5 * (self.gradient * step).sum(-1) > SMALLEST_GAIN * (1.0 + counts)
        change = standardisation.furthest(step.unflatten(-1, (-1, len(standardisation.reach))))
        shorter = (MOST_CHANGE / change.clamp_min(MOST_CHANGE)).unsqueeze(-1) * step
        return torch.where(gains.unsqueeze(-1), step, shorter)
