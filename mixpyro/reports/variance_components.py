"""Standard deviations and correlations of random effects, and of the noise, with intervals."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mixpyro import arguments
from mixpyro.distributions.wishart_regression import unpacked
from mixpyro.experts.random_effects import RandomEffectsExperts
from mixpyro.fitting.reads_rows import reads_rows
from mixpyro.fitting.result import FitResult
from mixpyro.intervals.linear_response import LinearResponse, linear_response
from mixpyro.intervals.names import checked_names
from mixpyro.numerics.cholesky import cholesky
from mixpyro.shapes import AnyTable, GateInputs, Inputs, Targets

# Draws that quantiles are taken from; their error is a fiftieth of the interval's width.
N_DRAWS = 10_000


class VarianceComponent(NamedTuple):
    """A standard deviation or a correlation with its uncertainty."""

    estimate: float  # posterior median
    low: float  # ends of the interval, quantiles of the posterior
    high: float


@reads_rows
@arguments.outside_contexts
@arguments.checked(probability=arguments.probability)
def variance_components(
    fitted: FitResult,
    x: Inputs | AnyTable = None,
    y: Targets | AnyTable = None,
    *,
    gate_x: GateInputs | AnyTable = None,
    weights: Float[Tensor, " N"] | AnyTable = None,
    feature_names: Sequence[str] | None = None,
    probability: float = 0.9,
) -> dict[str, VarianceComponent]:
    """Return standard deviations and correlations of random effects, and the noise's, with intervals.

    The posterior is Normal in the coordinates of :func:`~mixpyro.linear_response`, logarithms of precisions and
    regressions of effects on each other. Effects are those of x as it is: the random intercept is that at x = 0.

    Args:
        fitted: result of :func:`~mixpyro.fit` of a mixture with :class:`~mixpyro.RandomEffectsExperts`.
        x: inputs [N, D] that were fitted.
        y: outputs [N, 1] or [N] that were fitted.
        gate_x: the gate's inputs [N, G], if they were not x.
        weights: of the rows [N], at least 0; those of the fit by default.
        feature_names: D different names of the columns of x; x0, x1, … by default.
        probability: that the intervals hold, above 0 and below 1.

    Raises:
        TypeError: if ``fitted`` is no result.
        ValueError: if its experts have no random effects, an argument does not fit, the rows are not those of the
            result, or the fit is not near a strict maximum.

    Example:
        >>> from mixpyro import DirichletGate, MixtureOfExperts, fit
        >>> group = torch.arange(30).repeat_interleave(4)
        >>> x, noise = torch.linspace(0, 1, 120).double().unsqueeze(1), torch.sin(7.0 * torch.arange(120).double())
        >>> y = x[:, 0] + torch.cos(3.0 * group.double()) + 0.1 * noise
        >>> result = fit(MixtureOfExperts(DirichletGate(1), RandomEffectsExperts(1, 1)), x, y, groups=group)
        >>> list(variance_components(result, x, y))
        ['component 0, sd of random intercept', 'component 0, sd of noise']
    """
    if not isinstance(fitted, FitResult):
        raise TypeError(f"`fitted` must be what `fit` returned; got {type(fitted).__name__}.")
    experts = fitted.mixture.experts
    if not isinstance(experts, RandomEffectsExperts):
        raise ValueError(f"`fitted` must be of RandomEffectsExperts; got {type(experts).__name__}.")
    level = arguments.positive_number("probability", probability)
    if level >= 1.0:
        raise ValueError(f"`probability` must be below 1; got {level}.")
    features = checked_names("feature_names", feature_names, x)
    response = linear_response(fitted, x, y, gate_x=gate_x, weights=weights, feature_names=feature_names)
    drawn = dict(zip(_names(experts, features), _components(experts, _draws(response)).mT, strict=True))
    tail = 0.5 * (1.0 - level)
    points = torch.tensor([0.5, tail, 1.0 - tail], dtype=torch.float64, device=x.device)
    return {name: VarianceComponent(*values.quantile(points).tolist()) for name, values in drawn.items()}


def _draws(response: LinearResponse) -> Float[Tensor, "S Q"]:
    """Draw the quantities of a response, always with the same random numbers."""
    estimates, covariance = response.estimates, response.covariance
    if not bool(covariance.isfinite().all()):
        raise ValueError("`fitted` must have more groups: some quantity has no finite variance.")
    generator = torch.Generator("cpu").manual_seed(0)
    normal = torch.randn(N_DRAWS, len(estimates), generator=generator, dtype=torch.float64, device="cpu")
    return estimates + normal.to(estimates) @ cholesky(covariance).mT


def _components(experts: RandomEffectsExperts, draws: Float[Tensor, "S Q"]) -> Float[Tensor, "S C"]:
    """Return standard deviations, correlations and noises of draws, component by component."""
    n_covariances, q = experts.prior.scale.shape[:2]
    n_noises, n_regressions = experts.prior.rate.numel(), q * (q - 1) // 2
    sizes = [n_noises, n_covariances * q, n_covariances * n_regressions]
    log_noise, log_precision, regression = draws[:, draws.shape[1] - sum(sizes) :].split(sizes, dim=1)
    log_precision = log_precision.unflatten(1, (n_covariances, q))
    identity = torch.eye(q, dtype=draws.dtype, device=draws.device)
    regressions = unpacked(regression.unflatten(1, (n_covariances, -1)), q) if n_regressions else 0.0 * identity
    root = torch.linalg.solve_triangular(
        (identity - regressions).expand(*log_precision.shape, q), identity, upper=False, unitriangular=True
    )
    root = root * (-0.5 * log_precision).exp().unsqueeze(-2)
    covariance = root @ root.mT
    deviation = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    first, second = torch.tril_indices(q, q, -1, device=draws.device)
    correlation = covariance[..., first, second] / (deviation[..., first] * deviation[..., second])
    effects = torch.cat([deviation, correlation], dim=-1).flatten(1)
    return torch.cat([effects, (-0.5 * log_noise).exp()], dim=1)


def _names(experts: RandomEffectsExperts, feature_names: Sequence[str]) -> list[str]:
    """Return the names of the components, in the order of :func:`_components`."""
    components = [f"component {experts.first_component + k}, " for k in range(experts.n_components)]
    of_effects = components if experts.covariance_per_component else [""]
    of_noise = components if experts.noise_per_component else [""]
    effects = experts.effect_names(feature_names)
    own = [f"sd of {effect}" for effect in effects]
    own += [f"correlation of {effects[p]} and {effects[j]}" for p in range(len(effects)) for j in range(p)]
    return [f"{k}{name}" for k in of_effects for name in own] + [f"{k}sd of noise" for k in of_noise]
