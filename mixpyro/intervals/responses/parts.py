"""The parts of a mixture that linear response speaks of, and the names of their quantities."""

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from mixpyro.conjugate.responses.base import Response
from mixpyro.conjugate.responses.registry import response_of
from mixpyro.conjugate.responses.stacked_regressions import StackedResponse
from mixpyro.conjugate.sticks import LearntSticks
from mixpyro.conjugate_part import ConjugatePart
from mixpyro.experts.banks import Banks
from mixpyro.experts.base import Experts
from mixpyro.experts.gaussian_prior import GaussianPrior
from mixpyro.experts.linear_prior import LinearPrior
from mixpyro.experts.random_effects import RandomEffectsExperts
from mixpyro.experts.shared_linear import SharedLinearExperts
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
    prefix: str = ""  # of the names of its quantities

    @property
    def response(self) -> Response:
        """The linear response of the part's posterior as it is now, with its gradient."""
        origin, value = None, self.part.posterior
        if isinstance(self.part, SharedLinearExperts):
            return StackedResponse(self.part.posterior, self.part.stacked_origin, self.part.stacking)
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


class Bank(NamedTuple):
    """A bank of experts of one family, wherever it is in a mixture's experts."""

    name: str  # experts, experts.0 or, of banks of banks, experts.0.1
    part: Experts
    outputs: slice  # columns of y that it has densities of
    prefix: str  # of the names of its parameters


def banks_of(mixture: MixtureOfExperts) -> Iterator[Bank]:
    """Yield each bank of experts of one family, the members of banks of banks in order.

    Args:
        mixture: any.
    """
    experts = mixture.experts
    yield from _banks(Bank("experts", experts, slice(0, experts.n_outputs), ""))


def _banks(bank: Bank) -> Iterator[Bank]:
    """Yield a bank, or its members."""
    if not isinstance(bank.part, Banks):
        yield bank
        return
    rows = list(range(bank.outputs.start, bank.outputs.stop))
    columns = bank.part.of_members(torch.tensor([rows], dtype=torch.float64, device="cpu"))
    for number, (member, own) in enumerate(zip(bank.part.members, columns, strict=True)):
        outputs = slice(int(own[0, 0]), int(own[0, -1]) + 1)
        yield from _banks(Bank(f"{bank.name}.{number}", member, outputs, bank.prefix + bank.part.prefix(number)))


def joined(experts: Experts, log_likelihoods: Iterator[Tensor]) -> Tensor:
    """Return the log density of y under each component from those of the banks of one family.

    Args:
        experts: of a mixture.
        log_likelihoods: [..., K, N] of each bank, in the order of :func:`banks_of`.
    """
    if not isinstance(experts, Banks):
        return next(log_likelihoods)
    return experts.joined([joined(member, log_likelihoods) for member in experts.members])


def members_of(mixture: MixtureOfExperts) -> Iterator[tuple[str, Part]]:
    """Yield the gate and each bank of experts of one family, with its name.

    Args:
        mixture: any.
    """
    yield "gate", mixture.gate
    for bank in banks_of(mixture):
        yield bank.name, bank.part


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
    prefixes = {bank.name: bank.prefix for bank in banks_of(mixture)}
    return [
        PosteriorPart(name, part, prefixes.get(name, ""))
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
    if isinstance(part, SharedLinearExperts):
        return True
    return response_of(part.posterior) is not None and not getattr(part, "batch_shape", None)


def full_quantity_names(part: PosteriorPart, feature_names: list[str]) -> list[str]:
    """Return the names of the quantities of a part among those of a mixture, as in ``experts: component 0, intercept``.

    Args:
        part: of a mixture.
        feature_names: names of the columns that it reads.
    """
    beginning = f"{part.name.split('.')[0]}: {part.prefix}"
    return [f"{beginning}{name}" for name in quantity_names(part.part, feature_names)]


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
    whose = [(k, columns) for k in components]
    if isinstance(part, SharedLinearExperts):
        labels = part.axis_labels(feature_names)
        whose = [(k, labels["own_regressor"]) for k in components] + [
            (part.named_together(), labels["shared_regressor"])
        ]
    n_noises, n_columns = part.posterior_rate.shape
    in_common = part.named_together() if part.is_member else ""
    own = components if n_noises == len(components) else [in_common]
    of_noise = [f"{k}{y if n_columns == len(outputs) else ''}, log precision" for k in own for y in outputs[:n_columns]]
    return [f"{k}{y}, {column}" for k, own_columns in whose for y in outputs for column in own_columns] + [
        name.removeprefix(", ") for name in of_noise
    ]


def _of_densities(part: GaussianPrior) -> list[str]:
    """Return names of means [K, P], then of log precisions, then if full of regressions of columns on others."""
    components = [f"component {part.first_component + k}" for k in range(part.n_components)]
    columns = range(part.n_outputs)
    names = [f"{k}, mean y{p}" for k in components for p in columns]
    if part.covariance == "spherical":
        return names + [f"{k}, log precision" for k in components]
    is_diagonal = part.covariance == "diagonal"
    given = " given those before it" if not is_diagonal and part.n_outputs > 1 else ""
    own = [part.named_together()] if part.is_tied else components
    names += [f"{k}, log precision y{p}{given}" for k in own for p in columns]
    if not is_diagonal:
        pairs = sorted((p, j) for j, p in combinations(columns, 2))
        names += [f"{k}, regression y{p} on y{j}" for k in own for p, j in pairs]
    return names


def _outputs(n_outputs: int) -> list[str]:
    """Return what tells outputs apart in names: nothing where there is one."""
    return [""] if n_outputs == 1 else [f", output {p}" for p in range(n_outputs)]
