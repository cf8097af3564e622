"""Real coordinates of a mixture's parameters without limits, and the Pyro sites and parameters that they belong to.

The coordinates are the quantities of :class:`~mixpyro.LinearResponse`, in its order: those of parts with a posterior,
then the estimated parameters.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from mixpyro.conjugate_part import ConjugatePart
from mixpyro.experts.gaussian_prior import GaussianPrior
from mixpyro.experts.linear_prior import LinearPrior
from mixpyro.experts.random_effects import RandomEffectsExperts
from mixpyro.experts.shared_linear import SharedLinearExperts
from mixpyro.gates.bayesian_logits import BayesianLogitGate
from mixpyro.gates.stick_breaking import StickBreakingGate
from mixpyro.intervals.responses.parts import posterior_parts
from mixpyro.mixture import MixtureOfExperts

# What a coordinate is of the value of its site: the value, its logarithm, log ratios against the first weight, or the
# log odds of a share.
AS_IT_IS, LOGARITHM, LOG_RATIOS, LOG_ODDS = "as it is", "logarithm", "log ratios", "log odds"


class Site(NamedTuple):
    """Some of the coordinates: those of one Pyro site, or of one estimated parameter."""

    name: str  # full name of the Pyro site; of an estimated parameter, its name in the mixture
    shape: tuple[int, ...]  # of the coordinates of one draw
    kind: str
    is_estimated: bool = False

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return int(torch.Size(self.shape).numel())

    def value(self, coordinates: Float[Tensor, "S Q"]) -> Tensor:
        """Return the value of the site [S, …].

        Args:
            coordinates: of the site.
        """
        own = coordinates.unflatten(-1, self.shape) if self.shape else coordinates.squeeze(-1)
        if self.kind == LOGARITHM:
            return own.exp()
        if self.kind == LOG_RATIOS:
            return log_weights(own).exp()
        if self.kind == LOG_ODDS:
            return own.sigmoid().clamp(max=1.0 - torch.finfo(own.dtype).eps)
        return own

    def coordinates(self, value: Tensor) -> Float[Tensor, "S Q"]:
        """Return the coordinates of values; inverse of :meth:`value`.

        Args:
            value: [S, …].
        """
        if self.kind == LOGARITHM:
            value = value.log()
        elif self.kind == LOG_RATIOS:
            value = value.log()
            value = value[..., 1:] - value[..., :1]
        elif self.kind == LOG_ODDS:
            value = value.logit()
        return value.flatten(1) if value.ndim > 1 else value.unsqueeze(-1)

    def log_jacobian(self, coordinates: Float[Tensor, "S Q"]) -> Float[Tensor, " S"]:
        """Return the logarithm of the volume of values for each of coordinates [S].

        Args:
            coordinates: of the site.
        """
        if self.kind == LOGARITHM:
            return coordinates.sum(-1)
        if self.kind == LOG_RATIOS:
            return log_weights(coordinates).sum(-1)
        if self.kind == LOG_ODDS:
            return (logsigmoid(coordinates) + logsigmoid(-coordinates)).sum(-1)
        return coordinates.new_zeros(len(coordinates))


class FreeParameters:
    """All coordinates of a mixture's parameters.

    Args:
        mixture: whose parameters all objects share.

    Raises:
        ValueError: if a part has parameters of each object.
    """

    def __init__(self, mixture: MixtureOfExperts) -> None:
        of_posteriors = [site for part in posterior_parts(mixture) for site in sites_of(part.part)]
        estimated = [
            Site(name, tuple(parameter.shape), AS_IT_IS, is_estimated=True)
            for name, parameter in mixture.named_parameters()
            if parameter.requires_grad and parameter.numel()
        ]
        self.sites = (*of_posteriors, *estimated)

    @property
    def size(self) -> int:
        """Q."""
        return sum(site.size for site in self.sites)

    def split(self, theta: Float[Tensor, "S Q"]) -> dict[str, Tensor]:
        """Return the coordinates of each site, by its name.

        Args:
            theta: all coordinates.
        """
        parts = theta.split([site.size for site in self.sites], dim=-1)
        return {site.name: part for site, part in zip(self.sites, parts, strict=True)}

    def values(self, theta: Float[Tensor, "S Q"]) -> dict[str, Tensor]:
        """Return the value of each site and estimated parameter [S, …], by its name.

        Args:
            theta: all coordinates.
        """
        parts = self.split(theta)
        return {site.name: site.value(parts[site.name]) for site in self.sites}

    def joined(self, values: dict[str, Tensor]) -> Float[Tensor, "S Q"]:
        """Return all coordinates of values; inverse of :meth:`values`.

        Args:
            values: [S, …] each, by the name of the site.
        """
        return torch.cat([site.coordinates(values[site.name]) for site in self.sites], dim=-1)

    def log_jacobian(self, theta: Float[Tensor, "S Q"]) -> Float[Tensor, " S"]:
        """Return the logarithm of the volume of the sites' values for each of coordinates [S].

        Args:
            theta: all coordinates.
        """
        parts = self.split(theta)
        total = theta.new_zeros(len(theta))
        for site in self.sites:
            total = total + site.log_jacobian(parts[site.name])
        return total


def sites_of(part: ConjugatePart) -> list[Site]:
    """Return the sites of a part with a posterior, in the order of its linear response.

    Args:
        part: a gate or experts.
    """
    if isinstance(part, SharedLinearExperts):
        of = part.stacking
        return [
            Site(part.site("coefficients"), (part.n_components, part.n_outputs, len(of.own)), AS_IT_IS),
            Site(part.site("shared_coefficients"), (1, part.n_outputs, len(of.common)), AS_IT_IS),
            Site(part.site("precision"), tuple(part.posterior_rate.shape), LOGARITHM),
        ]
    if isinstance(part, LinearPrior):
        shape = part.n_components, part.n_outputs, part.n_columns
        return [
            Site(part.site("coefficients"), shape, AS_IT_IS),
            Site(part.site("precision"), tuple(part.posterior_rate.shape), LOGARITHM),
        ]
    if isinstance(part, GaussianPrior):
        return _sites_of_densities(part)
    if isinstance(part, RandomEffectsExperts):
        return _sites_of_effects(part)
    if isinstance(part, BayesianLogitGate):
        return [Site(part.site("coefficients"), part.coefficients_shape, AS_IT_IS)]
    if isinstance(part, StickBreakingGate):
        shares, *concentration = part.weights_sites
        own = [Site(name, (), LOGARITHM) for name in concentration]
        return [Site(shares, (part.n_components,), LOG_ODDS), *own]
    return [Site(part.site("weights"), (part.n_components - 1,), LOG_RATIOS)]


def log_weights(ratios: Float[Tensor, "*S Q"]) -> Float[Tensor, "*S K"]:
    """Return log weights of components from log ratios against the first.

    Args:
        ratios: [..., K − 1].
    """
    return torch.cat([ratios.new_zeros(*ratios.shape[:-1], 1), ratios], dim=-1).log_softmax(-1)


def _sites_of_densities(part: GaussianPrior) -> list[Site]:
    """Return the sites of Gaussian densities."""
    k, p = part.n_components, part.n_outputs
    mean = Site(part.site("mean"), (k, p), AS_IT_IS)
    if part.covariance in ("diagonal", "spherical"):
        shape = (k,) if part.covariance == "spherical" else (k, p)
        return [mean, Site(part.site("precision"), shape, LOGARITHM)]
    k = len(part.posterior_degrees)
    found = [mean, Site(part.site("conditional_precision"), (k, p), LOGARITHM)]
    return found if p == 1 else [*found, Site(part.site("regression"), (k, p * (p - 1) // 2), AS_IT_IS)]


def _sites_of_effects(part: RandomEffectsExperts) -> list[Site]:
    """Return the sites of regressions with random effects."""
    n_covariances, q = part.prior.scale.shape[:2]
    found = [
        Site(part.site("coefficients"), (part.n_components, part.n_columns), AS_IT_IS),
        Site(part.site("precision"), tuple(part.prior.rate.shape), LOGARITHM),
        Site(part.site("effect_conditional_precision"), (n_covariances, q), LOGARITHM),
    ]
    regressions = Site(part.site("effect_regression"), (n_covariances, q * (q - 1) // 2), AS_IT_IS)
    return found if q == 1 else [*found, regressions]
