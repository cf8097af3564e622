"""The parts of a mixture that linear response speaks of, and the names of their quantities."""

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from mixpyro.conjugate.responses.base import Response
from mixpyro.conjugate.responses.registry import response_of
from mixpyro.conjugate.sticks import LearntSticks
from mixpyro.conjugate_part import ConjugatePart
from mixpyro.experts.gaussian_prior import GaussianPrior
from mixpyro.experts.heterogeneous import HeterogeneousExperts
from mixpyro.experts.linear_prior import LinearPrior
from mixpyro.experts.random_effects import RandomEffectsExperts
from mixpyro.gates.base import Gate
from mixpyro.gates.bayesian_logits import BayesianLogitGate
from mixpyro.gates.per_object import ObjectGate
from mixpyro.gates.stick_breaking import StickBreakingGate
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics.design_matrix import Origin
from mixpyro.part import Part


class PosteriorPart(NamedTuple):
    """A part with an analytic posterior."""

    name: str  # gate, experts, or experts.0
    part: ConjugatePart

    @property
    def response(self) -> Response:
        """The linear response of the part's posterior as it is now, with its gradient."""
        origin, value = None, self.part.posterior
        if isinstance(self.part, LinearPrior):
            origin = Origin(self.part.x_origin.double(), self.part.y_origin.double(), self.part.intercept)
        elif isinstance(self.part, GaussianPrior):
            y = self.part.y_origin.double()
            origin = Origin(y.new_zeros(0), y, intercept=True)
        elif isinstance(self.part, RandomEffectsExperts):
            value = self.part.posterior_from_zero
        found = response_of(value, origin)
        assert found is not None
        return found


def members_of(mixture: MixtureOfExperts) -> Iterator[tuple[str, Part]]:
    """Yield the gate and each bank of experts of one family, with its name.

    Args:
        mixture: any.
    """
    yield "gate", mixture.gate
    if not isinstance(mixture.experts, HeterogeneousExperts):
        yield "experts", mixture.experts
        return
    for number, member in enumerate(mixture.experts.members):
        yield f"experts.{number}", member


def posterior_parts(mixture: MixtureOfExperts) -> list[PosteriorPart]:
    """Return the parts with an analytic posterior that has parameters.

    Args:
        mixture: any.

    Raises:
        ValueError: if a part has a posterior of each object, or of a kind without a linear response.
    """
    for name, part in members_of(mixture):
        if isinstance(part, ObjectGate) or (isinstance(part, ConjugatePart) and not _has_response(part)):
            raise ValueError(
                "`result` must be of a gate and experts with parameters that all objects share, such as DirichletGate, "
                f"SoftmaxGate, LinearExperts, GaussianExperts and GLMExperts; got the {name} part, a "
                f"{type(part).__name__}, for which there is no linear response."
            )
    return parts_with_response(mixture)


def parts_with_response(mixture: MixtureOfExperts) -> list[PosteriorPart]:
    """Return the parts with an analytic posterior of parameters that all objects share.

    Args:
        mixture: any.
    """
    return [
        PosteriorPart(name, part)
        for name, part in members_of(mixture)
        if isinstance(part, ConjugatePart)
        and not isinstance(part, ObjectGate)
        and not (isinstance(part, Gate) and not part.has_free_weights)
        and _has_response(part)
    ]


def has_posteriors(mixture: MixtureOfExperts) -> bool:
    """Return whether a part has an analytic posterior rather than estimates.

    Args:
        mixture: any.
    """
    parts = [part for _, part in members_of(mixture)]
    return any(
        isinstance(part, ConjugatePart | ObjectGate) and not (isinstance(part, Gate) and not part.has_free_weights)
        for part in parts
    )


def _has_response(part: ConjugatePart) -> bool:
    """Return whether a posterior is of a kind with a linear response, and one for all objects."""
    return response_of(part.posterior) is not None and not getattr(part, "batch_shape", None)


def quantity_names(part: ConjugatePart, feature_names: list[str]) -> list[str]:
    """Return the names of the quantities of a part with a posterior, in the order of its response.

    Args:
        part: a gate or experts.
        feature_names: names of the columns that it reads.
    """
    if isinstance(part, LinearPrior):
        return _of_regressions(part, feature_names)
    if isinstance(part, GaussianPrior):
        return _of_densities(part)
    if isinstance(part, RandomEffectsExperts):
        return part.quantity_names(feature_names)
    if isinstance(part, BayesianLogitGate):
        return part.coefficient_names(feature_names)
    if isinstance(part, StickBreakingGate):
        return _of_sticks(part)
    return [f"component {k} against 0, log weight" for k in range(1, part.n_components)]


def _of_sticks(part: StickBreakingGate) -> list[str]:
    """Return names of the log odds of shares [K], then of the concentration where it has a posterior."""
    names = [f"component {k}, log odds of its share" for k in range(part.n_components)]
    return [*names, "log concentration"] if isinstance(part.posterior, LearntSticks) else names


def _of_regressions(part: LinearPrior, feature_names: list[str]) -> list[str]:
    """Return names of coefficients [K, P, E], then of log precisions in the form of the rate."""
    columns = (["intercept"] if part.intercept else []) + feature_names[: part.n_features]
    outputs = _outputs(part.n_outputs)
    components = [f"component {part.first_component + k}" for k in range(part.n_components)]
    n_noises, n_columns = part.posterior_rate.shape
    own = components if n_noises == len(components) else [""]
    of_noise = [f"{k}{y if n_columns == len(outputs) else ''}, log precision" for k in own for y in outputs[:n_columns]]
    return [f"{k}{y}, {column}" for k in components for y in outputs for column in columns] + [
        name.removeprefix(", ") for name in of_noise
    ]


def _of_densities(part: GaussianPrior) -> list[str]:
    """Return names of means [K, P], then of log precisions, then if full of regressions of columns on others."""
    components = [f"component {part.first_component + k}" for k in range(part.n_components)]
    columns = range(part.n_outputs)
    names = [f"{k}, mean y{p}" for k in components for p in columns]
    if part.covariance == "spherical":
        return names + [f"{k}, log precision" for k in components]
    given = " given those before it" if part.covariance == "full" and part.n_outputs > 1 else ""
    names += [f"{k}, log precision y{p}{given}" for k in components for p in columns]
    if part.covariance == "full":
        pairs = sorted((p, j) for j, p in combinations(columns, 2))
        names += [f"{k}, regression y{p} on y{j}" for k in components for p, j in pairs]
    return names


def _outputs(n_outputs: int) -> list[str]:
    """Return what tells outputs apart in names: nothing where there is one."""
    return [""] if n_outputs == 1 else [f", output {p}" for p in range(n_outputs)]
