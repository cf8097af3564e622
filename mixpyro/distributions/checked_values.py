"""Distributions of outputs that say in plain words which values they refuse."""

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any, TypeVar

import torch
from pyro.distributions import Independent, MixtureSameFamily
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Size, Tensor
from torch.distributions import constraints

from mixpyro import arguments

Expanded = TypeVar("Expanded", bound=TorchDistributionMixin)

# Draws that no memory holds.
MOST_DRAWS = 2**48
# Shape of a single draw; `Size` in the signature of a method would be called there.
ONE_DRAW = Size()


class ChecksValues:
    """Base that checks values and shapes of draws, to be named before a distribution of PyTorch or Pyro.

    As everywhere in Pyro, values are checked where the distribution was made with ``validate_args``, which by default
    is as Pyro's own validation is set.
    """

    def sample(self, sample_shape: Sequence[int] = ONE_DRAW) -> Tensor:
        """Draw values.

        Args:
            sample_shape: shape of independent draws.

        Returns:
            [*sample_shape, *batch, *event].

        Raises:
            TypeError: if ``sample_shape`` is no sequence of integers.
            ValueError: if one of them is negative.
        """
        shape = shape_of_draws(sample_shape)
        if 0 in shape:  # which PyTorch refuses for categories
            one: Tensor = super().sample()  # type: ignore[misc]
            return one.new_empty(shape + one.shape)
        drawn: Tensor = super().sample(shape)  # type: ignore[misc]
        return drawn

    def rsample(self, sample_shape: Sequence[int] = ONE_DRAW) -> Tensor:
        """Draw values that gradients go through, where the distribution has such.

        Args:
            sample_shape: as for :meth:`sample`.
        """
        drawn: Tensor = super().rsample(shape_of_draws(sample_shape))  # type: ignore[misc]
        return drawn

    def _validate_sample(self, value: Tensor) -> None:
        """Raise unless a value can be one of these outputs.

        Args:
            value: of a shape that broadcasts with the batch shape and event shape.

        Raises:
            TypeError: if it is no dense tensor of real numbers.
            ValueError: if its shape does not fit, or a number of it cannot occur.
        """
        check_shape(self, value)
        try:
            super()._validate_sample(value)  # type: ignore[misc]
        except ValueError as error:
            raise ValueError(_refused(self, value)) from error


class IndependentOutputs(ChecksValues, Independent):  # type: ignore[override]
    """Outputs that are independent given the parameters: the last axis of a distribution [..., P].

    Args:
        of_each: the distribution of each output, batch shape [..., P].
    """

    def __init__(self, of_each: Any) -> None:  # noqa: ANN401 (distributions of PyTorch, or of Pyro)
        super().__init__(of_each, 1)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "IndependentOutputs":  # noqa: ANN401
        """Expand the batch shape.

        Args:
            batch_shape: the new shape.
            _instance: not used.

        Returns:
            A new distribution that shares the parameters of this one.
        """
        return IndependentOutputs(self.base_dist.expand(Size(batch_shape) + self.event_shape[:1]))

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute the log density of all outputs together.

        Args:
            value: [..., P] of a shape that broadcasts.

        Returns:
            In the broadcast shape without the last axis, in nats.

        Raises:
            TypeError: if the value is no dense tensor of real numbers.
            ValueError: if its shape does not fit, or a number of it cannot occur.
        """
        if self._validate_args:
            check_shape(self, value)
            value = arguments.normal(value.byte() if value.dtype is torch.bool else value)
        try:
            # Each output checks its own numbers.
            found: Tensor = super().log_prob(value)  # type: ignore[no-untyped-call]
        except ValueError as error:
            raise ValueError(_refused(self, value)) from error
        return found


class MixtureOfOutputs(ChecksValues, MixtureSameFamily):
    """A mixture as in Pyro, which says in plain words which values it refuses."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Compute the log density, assignments summed out.

        Args:
            value: [..., *event] of a shape that broadcasts with the batch shape.

        Returns:
            In the broadcast shape without the axes of the event, in nats.

        Raises:
            TypeError: if the value is no dense tensor of real numbers.
            ValueError: if its shape does not fit, or a number of it cannot occur.
        """
        found: Tensor = super().log_prob(value)
        return found


def checked_as(original: Any, expanded: Expanded) -> Expanded:  # noqa: ANN401 (distributions of PyTorch, or of Pyro)
    """Return a distribution that checks values where the one does that it was expanded from.

    Args:
        original: the distribution as it was made.
        expanded: the same of another batch shape.
    """
    expanded._validate_args = original._validate_args
    return expanded


def shape_of_draws(sample_shape: object) -> Size:
    """Return the shape of independent draws.

    Args:
        sample_shape: what the user passed.

    Raises:
        TypeError: if it is no sequence of integers.
        ValueError: if one of them is negative, or there are too many draws for any memory.
    """
    try:
        if isinstance(sample_shape, str | bytes | bytearray | Set | Mapping):  # whose letters or keys are no sizes
            raise TypeError
        shape = Size(sample_shape)  # type: ignore[arg-type]
    except TypeError as error:
        got = f"{arguments.shown(sample_shape)} of type {type(sample_shape).__name__}"
        raise TypeError(f"`sample_shape` must be a sequence of integers, such as (100,); got {got}.") from error
    if any(size < 0 for size in shape):
        raise ValueError(f"`sample_shape` must have sizes from 0 on; got {list(shape)}.")
    if math.prod(shape) > MOST_DRAWS:
        raise ValueError(f"`sample_shape` must be of at most {MOST_DRAWS} draws; got {list(shape)}.")
    return shape


def check_shape(distribution: Any, value: object) -> None:  # noqa: ANN401 (distributions of PyTorch, or of Pyro)
    """Raise unless a value is a tensor whose shape broadcasts with that of a distribution.

    Args:
        distribution: of outputs.
        value: what the user passed.

    Raises:
        TypeError: if it is no dense tensor of real numbers.
        ValueError: if its shape does not fit; the axes of an event do not broadcast.
    """
    given = arguments.a_tensor("value", value)
    if given.is_complex():
        raise TypeError(f"`value` must hold real numbers; got {given.dtype}. Pass its real part.")
    if given.is_floating_point() and given.element_size() == 1:  # of which PyTorch computes no remainder
        raise TypeError(f"`value` must be of more than eight bits; got {given.dtype}. Use value.float().")
    batch, event = distribution.batch_shape, distribution.event_shape
    n_before = given.ndim - len(event)
    if n_before < 0 or given.shape[n_before:] != event:
        raise ValueError(f"`value` must have shape [..., {', '.join(map(str, event))}]; got {list(given.shape)}.")
    pairs = zip(reversed(given.shape[:n_before]), reversed(batch), strict=False)
    if any(size not in (1, wanted) and wanted != 1 for size, wanted in pairs):
        wanted = [*batch, *event]
        raise ValueError(f"`value` must have a shape that broadcasts with {wanted}; got {list(given.shape)}.")


def _refused(distribution: Any, value: Tensor) -> str:  # noqa: ANN401
    """Return why a distribution has refused a value, with the first number that it does not have."""
    support = distribution.support
    possible = support.check(value)
    events = value.detach().expand(*possible.shape, *distribution.event_shape)
    return f"`value` must be {_in_words(support)}; got {arguments.shown(events[~possible][0].tolist())}."


def _in_words(support: Any) -> str:  # noqa: ANN401 (constraints of PyTorch are not annotated)
    """Return which values a distribution has."""
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    if isinstance(support, type(constraints.real)):
        return "numbers, none of them NaN"
    if support.is_discrete and getattr(support, "lower_bound", None) == 0:
        if not hasattr(support, "upper_bound"):
            return "whole numbers from 0 on"
        largest = support.upper_bound
        return f"whole numbers from 0 to {largest if isinstance(largest, int) else 'the number of trials'}"
    return f"in the support of the distribution, {support}"
