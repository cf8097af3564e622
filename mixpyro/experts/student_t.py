"""Student-t outcomes: regressions that a few far rows do not move."""

import math

import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from mixpyro.distributions.checked_values import IndependentOutputs
from mixpyro.distributions.student_t import PreciseStudentT
from mixpyro.experts.family import Family
from mixpyro.numerics.curvature import Curvature
from mixpyro.numerics.log_gamma import log_gamma_half_step

# Degrees of freedom that are estimated. Above 1 the mean exists, and a component cannot sit on a handful of equal rows
# for the tails that it has; at a million it is Normal, to 10⁻⁶ nats a row.
LEAST_DEGREES, MOST_DEGREES = 1.01, 1e6
# Degrees of freedom beyond which tails are Normal for all that a table can show.
NORMAL_DEGREES = 1e4
# Where a search begins.
DEGREES_AT_START = 10.0


class StudentT(Family):
    """y ~ StudentT(ν) with location η and scale σ: a robust regression, ν and σ estimated for each component.

    A row has weight (ν + 1) / (ν + ((y − η) / σ)²) in the regression, so that a far one counts little. ``scale`` of
    :class:`~mixpyro.experts.GLMExperts` has σ and ν, [K, 2]. ν is between 1.01 and a million, where it is the Gaussian
    family; a fit that ends there says so.

    References:
        Lange, Little, Taylor (1989), Robust statistical modeling using the t distribution; Peel, McLachlan (2000),
        Robust mixture modelling using the t distribution.

    Example:
        >>> from mixpyro import GLMExperts
        >>> x = torch.arange(9.0).double().unsqueeze(1)
        >>> y = 1.0 + 2.0 * x + 0.1 * torch.sin(5.0 * x)
        >>> y[4] = 100.0
        >>> experts = GLMExperts(1, 1, StudentT())
        >>> experts.maximise(x, y, torch.ones_like(y))
        >>> experts.coefficients.flatten().round(decimals=1).tolist()
        [1.0, 2.0]
    """

    scale_names = ("scale", "degrees of freedom")
    first_scales = (1.0, DEGREES_AT_START)
    has_scale = True
    is_discrete = False

    def log_prob(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return the log density; Bishop (2006), eq. B.64; arguments as :meth:`Family.log_prob`."""
        noise, degrees = (part.double() for part in scale.unbind(-1))
        squares = ((y.double() - eta.double().squeeze(-1)) / noise).square()
        normaliser = log_gamma_half_step(0.5 * degrees) - 0.5 * (math.pi * degrees).log() - noise.log()
        return (normaliser - 0.5 * (degrees + 1.0) * (squares / degrees).log1p()).to(exposure.dtype)

    def score(self, y: Tensor, eta: Tensor, exposure: Tensor, scale: Tensor) -> Tensor:
        """Return w (y − η) / σ², w a row's weight; arguments as :meth:`Family.score`."""
        residual = y.double().unsqueeze(-1) - eta.double()
        return (self._precision(residual, scale) * residual).to(exposure.dtype)

    def curvature(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> Curvature:
        """Return its mean over y, (ν + 1) / (ν + 3) / σ²; arguments as :meth:`Family.curvature`.

        Of a far row the density is convex in η. With the mean, Newton's method is Fisher's scoring, which takes half as
        many steps here as the EM algorithm.
        """
        noise, degrees = scale.split(1, dim=-1)
        return Curvature(((degrees + 1.0) / (degrees + 3.0) / noise.square()).expand_as(eta).to(exposure.dtype))

    def scale_limits(self, y: Tensor, weights: Tensor, smallest: Tensor) -> tuple[Tensor, Tensor]:
        """Return the limits of σ and ν; arguments as :meth:`Family.scale_limits`."""
        low, high = smallest.new_tensor([LEAST_DEGREES]), smallest.new_tensor([torch.inf, MOST_DEGREES])
        return torch.cat([smallest, low]), high

    def start(self, y: Tensor) -> Tensor:
        """Return y; arguments as :meth:`Family.start`."""
        return y

    def scales_at_start(self, noise: Tensor) -> Tensor:
        """Return the noise, and a moderate ν; arguments as :meth:`Family.scales_at_start`."""
        return torch.stack([noise, torch.full_like(noise, DEGREES_AT_START)], dim=-1)

    def beyond_limits(self, y: Tensor, scale: Float[Tensor, " S"], weights: Tensor) -> str:
        """Return that the tails are Normal; arguments as :meth:`Family.beyond_limits`."""
        if float(scale[1]) > NORMAL_DEGREES:
            return "has degrees of freedom without limit, Normal tails: Gaussian() does with a parameter less"
        return ""

    def caution(self, scale: Float[Tensor, " S"]) -> str:
        """Return that the tails are as heavy as they may be; arguments as :meth:`Family.caution`."""
        if float(scale[1]) > 1.001 * LEAST_DEGREES:
            return ""
        return (
            f"has the least degrees of freedom that are estimated, {LEAST_DEGREES}, tails as heavy as a Cauchy's: far "
            "rows may be a component of their own"
        )

    def mean(self, eta: Tensor, exposure: Tensor) -> Tensor:
        """Return η; arguments as :meth:`Family.mean`."""
        return eta.to(exposure.dtype)

    def distribution(self, eta: Tensor, exposure: Tensor, scale: Tensor) -> TorchDistributionMixin:
        """Return StudentT(ν, η, σ); arguments as :meth:`Family.distribution`."""
        noise, degrees = scale.split(1, dim=-1)
        return IndependentOutputs(PreciseStudentT(degrees, eta.to(exposure.dtype), noise))

    @staticmethod
    def _precision(residual: Tensor, scale: Tensor) -> Tensor:
        """Return w / σ² of every row [N, K, 1]."""
        noise, degrees = scale.double().split(1, dim=-1)
        return (degrees + 1.0) / (degrees * noise.square() + residual.square())
