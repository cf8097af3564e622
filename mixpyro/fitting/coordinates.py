"""What an iteration of variational EM maps to itself, as one row of numbers a run.

Of a conjugate part these are the sums over the rows: its posterior has natural parameters that are affine in them. Of a
part that finds the maximum of its parameters itself they are the parameters. Parts that are trained by gradient and
gates that keep a posterior of each object have none, so that their iterations cannot be extrapolated.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mixpyro.conjugate_part import ConjugatePart
from mixpyro.fitted_part import State
from mixpyro.fitting.em import Statistics
from mixpyro.gates.per_object import ObjectGate
from mixpyro.mixture import MixtureOfExperts, MixtureState
from mixpyro.numerics import nested
from mixpyro.part import Part
from mixpyro.pyro_internals.parameter_store import has_parameters
from mixpyro.shapes import Value


def have_coordinates(mixture: MixtureOfExperts, statistics: Statistics) -> bool:
    """Return whether both parts of a mixture have coordinates.

    Args:
        mixture: any.
        statistics: of an E-step. Those of a conjugate part need ``counts``, which must not be negative.
    """
    return _has_coordinates(mixture.gate, statistics.gate) and _has_coordinates(mixture.experts, statistics.experts)


def coordinates(mixture: MixtureOfExperts, statistics: Statistics, after: MixtureState) -> Float[Tensor, "R P"]:
    """Return what an update has found, float64.

    Args:
        mixture: with coordinates.
        statistics: that were the update's, of R runs.
        after: state after the update, of which estimates are read.
    """
    numbers = nested.tensors(_of_mixture(mixture, statistics, after))
    return torch.cat([tensor.flatten(1).double() for tensor in numbers], dim=1)


def at_coordinates(
    mixture: MixtureOfExperts, statistics: Statistics, state: MixtureState, points: Float[Tensor, "R P"]
) -> MixtureState:
    """Return the state of R runs at given coordinates.

    Args:
        mixture: with coordinates.
        statistics: of any E-step, for their form.
        state: before the update.
        points: coordinates of the state to return.
    """
    gate, experts = _value(mixture, statistics, state, points)
    return MixtureState(_placed(mixture.gate, state.gate, gate), _placed(mixture.experts, state.experts, experts))


def are_possible(
    mixture: MixtureOfExperts, statistics: Statistics, state: MixtureState, points: Float[Tensor, "R P"]
) -> Bool[Tensor, " R"]:
    """Return which coordinates are finite and count no fewer than zero rows.

    A matrix of squares that is not positive definite gives a bound that is not a number.

    Args:
        mixture: with coordinates.
        statistics: of any E-step, for their form.
        state: of R runs, for its form.
        points: coordinates to check.
    """
    possible = points.isfinite().all(-1)
    gate, experts = _value(mixture, statistics, state, points)
    for counts in (*_counts(mixture.gate, gate), *_counts(mixture.experts, experts)):
        possible = possible & (counts >= 0).flatten(1).all(-1)
    return possible


def _members(part: Part) -> tuple[Part, ...] | None:
    """Return the banks that experts are made of; None for one bank and for a gate."""
    return getattr(part, "members", None)


def _has_coordinates(part: Part, statistics: Value) -> bool:
    """Return whether a part has coordinates."""
    if (members := _members(part)) is not None:
        return all(_has_coordinates(member, own) for member, own in zip(members, statistics, strict=True))
    if isinstance(part, ConjugatePart):
        return not isinstance(part, ObjectGate) and not has_parameters(part) and hasattr(statistics, "counts")
    return part.finds_maximum or not has_parameters(part)


def _of_mixture(mixture: MixtureOfExperts, statistics: Statistics, state: MixtureState) -> Value:
    """Return the coordinates of both parts as a nested value."""
    gate, experts = mixture.gate, mixture.experts
    return _of_part(gate, statistics.gate, state.gate), _of_part(experts, statistics.experts, state.experts)


def _of_part(part: Part, statistics: Value, state: State) -> Value:
    """Return the coordinates of a part as a nested value."""
    if (members := _members(part)) is not None:
        own_states = zip(members, statistics, state.posterior, strict=True)
        return tuple(_of_part(member, own, its_state) for member, own, its_state in own_states)
    return statistics if isinstance(part, ConjugatePart) else state.estimates


def _value(mixture: MixtureOfExperts, statistics: Statistics, state: MixtureState, points: Tensor) -> Value:
    """Return coordinates as a nested value, in views of the points where the dtype is theirs."""
    like = _of_mixture(mixture, statistics, state)
    own = nested.tensors(like)
    parts = points.split([tensor[0].numel() for tensor in own], dim=1)
    return nested.with_tensors(
        like, [part.reshape(tensor.shape).to(tensor) for part, tensor in zip(parts, own, strict=True)]
    )


def _placed(part: Part, state: State, value: Value) -> State:
    """Return the state of a part at its coordinates."""
    if (members := _members(part)) is not None:
        own_values = zip(members, state.posterior, value, strict=True)
        return State(tuple(_placed(member, own, its_value) for member, own, its_value in own_values), ())
    if isinstance(part, ConjugatePart):
        return State(part.updated(value, state.posterior), ())
    return State((), value)


def _counts(part: Part, value: Value) -> list[Tensor]:
    """Return the counts of rows among the coordinates of a part."""
    if (members := _members(part)) is not None:
        pairs = zip(members, value, strict=True)
        return [counts for member, own in pairs for counts in _counts(member, own)]
    return [value.counts] if isinstance(part, ConjugatePart) else []
