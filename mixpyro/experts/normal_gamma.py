"""The conjugate prior of a linear regression with unknown noise, and its algebra."""

from typing import NamedTuple

import torch
from pyro.distributions import Gamma
from torch import Tensor
from torch.distributions import kl_divergence

from mixpyro.typing import Scalar


class LinearStatistics(NamedTuple):
    """Sums over objects weighted by responsibilities, float64, for a design u of E columns and outputs y."""

    r: Tensor  # Σ r [K]
    uu: Tensor  # Σ r u u' [K, E, E]
    uy: Tensor  # Σ r u y' [K, E, P]
    yy: Tensor  # Σ r y² [K, P]


class NormalGamma(NamedTuple):
    """w | τ ~ Normal(mean, (τ precision)⁻¹), τ ~ Gamma(shape, rate), for every component and output, float64."""

    mean: Tensor  # [K, P, E]
    precision: Tensor  # [K, E, E], the same for every output
    shape: Tensor  # [K]
    rate: Tensor  # [K, P]

    def posterior(self, seen: LinearStatistics) -> "NormalGamma":
        """The posterior of this prior; Murphy (2012), eq. 7.70 to 7.73."""
        precision = self.precision + seen.uu
        target = _times(self.precision, self.mean) + seen.uy
        mean = torch.cholesky_solve(target, torch.linalg.cholesky(precision)).mT
        # b₀ + ½ (squared residuals + distance from the prior): a sum of squares each, so that neither hides the other.
        residual = seen.yy - 2.0 * torch.einsum("kpe,kep->kp", mean, seen.uy) + _square(mean, seen.uu)
        distance = _square(mean - self.mean, self.precision)
        rate = self.rate + 0.5 * (residual.clamp_min(0.0) + distance)
        return NormalGamma(mean, precision, self.shape + 0.5 * seen.r, rate)

    def statistics_behind(self, posterior: "NormalGamma") -> LinearStatistics:
        """The statistics that lead from this prior to ``posterior``: its natural parameters less the prior's."""
        mean, uu = posterior.mean, posterior.precision - self.precision
        uy = _times(posterior.precision, mean) - _times(self.precision, self.mean)
        residual = 2.0 * (posterior.rate - self.rate) - _square(mean - self.mean, self.precision)
        yy = residual + 2.0 * torch.einsum("kpe,kep->kp", mean, uy) - _square(mean, uu)
        return LinearStatistics(2.0 * (posterior.shape - self.shape), uu, uy, yy)

    def kl_divergence(self, prior: "NormalGamma") -> Scalar:
        """KL(self ‖ prior), summed over components and outputs."""
        expected_precision = self.shape.unsqueeze(-1) / self.rate
        distance = _square(self.mean - prior.mean, prior.precision)
        trace = torch.linalg.solve(self.precision, prior.precision).diagonal(dim1=-2, dim2=-1).sum(-1)
        log_ratio = torch.logdet(self.precision) - torch.logdet(prior.precision)
        spread = (trace - self.mean.shape[-1] + log_ratio).unsqueeze(-1)
        normal = 0.5 * (expected_precision * distance + spread)
        noise = kl_divergence(Gamma(self.shape.unsqueeze(-1), self.rate), Gamma(prior.shape.unsqueeze(-1), prior.rate))
        return (normal + noise).sum()


def _times(precision: Tensor, mean: Tensor) -> Tensor:
    """Λ m [K, E, P]."""
    return torch.einsum("kef,kpf->kep", precision, mean)


def _square(vector: Tensor, matrix: Tensor) -> Tensor:
    """v' M v [K, P]."""
    return torch.einsum("kpe,kef,kpf->kp", vector, matrix, vector)
