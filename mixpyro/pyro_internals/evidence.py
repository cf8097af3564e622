"""What an enumerated program says of a gate's assignments, as derivatives of its bound."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass
class Evidence:
    """Terms of the log density of one assignment site, by which the bound is differentiated.

    The derivative of the bound with respect to the log density of zᵢ = k is q(zᵢ = k), times the weight of the object
    in the bound: N / B in a subsample. So one enumeration gives the loss and the responsibilities, whatever else the
    program enumerates, samples or scales; Khan, Lin (2017), eq. 3, is the natural gradient.

    What is computed from the derivative is computed once.

    Attributes:
        terms: leaf of the graph of the loss [*enumerated, *plates].
        index: which of the gate's log weights each of them belongs to, flat; broadcastable to the terms.
        values_axis: the axis, counted from the right, along which z takes its values; None if it is given.
        n_plates: number of axes of plates.
        may_be_silent: whether an object whose likelihood does not depend on z is left out.
        is_drawn: whether z is a draw from its prior, of which nothing can be learnt.
        derivative: of the loss with respect to the terms, where it is not their ``grad``.
    """

    terms: Tensor
    index: Tensor
    values_axis: int | None
    n_plates: int
    may_be_silent: Tensor | bool
    is_drawn: bool = False
    derivative: Tensor | None = None

    @property
    def is_seen(self) -> bool:
        """Whether the loss depends on the terms."""
        return self.derivative is not None or self.terms.grad is not None

    @cached_property
    def q(self) -> Tensor:
        """Derivative of the bound with respect to the terms: each object's q at its values, times its weight."""
        gradient = self.terms.grad if self.derivative is None else self.derivative
        assert gradient is not None
        return gradient.neg()

    @cached_property
    def weights_of_objects(self) -> Tensor:
        """How much each object counts in the bound, with an axis of length one for the values of z."""
        return self.q if self.values_axis is None else self.q.sum(self.values_axis, keepdim=True)

    def least_weight(self) -> float:
        """Return how much the object counts that counts least, of those that are not masked."""
        q = self.q
        enumerated = tuple(range(q.ndim - self.n_plates))
        weights = q.sum(enumerated) if enumerated else q
        return float(weights[weights > 0.0].min()) if bool((weights > 0.0).any()) else 0.0

    def silent(self, log_weights: Tensor) -> Tensor | None:
        """Return which objects say nothing of the weights, for their likelihood does not depend on z.

        Their q(z) is the prior exp(E_q[log π]) itself, which the mean field would count as one object at the current
        weights. Such an object has z summed out exactly, and says nothing.

        Args:
            log_weights: E_q[log π], flat, which ``index`` points into.

        Returns:
            One truth value an object, with an axis of length one for the values; None if no object is silent.
        """
        axis = self.values_axis
        if axis is None or self.may_be_silent is False:
            return None
        prior = log_weights.detach()[self.index].softmax(axis)
        largest = torch.finfo(prior.dtype).eps ** 0.5
        # Where a weight is too small for a number, nothing is known of the likelihood there.
        smallest = torch.finfo(prior.dtype).tiny
        first = self.q.narrow(axis, 0, 1) / (self.weights_of_objects * prior.narrow(axis, 0, 1))
        candidates = ((first - 1.0).abs() <= largest) & self.may_be_silent
        if not bool(candidates.any()):
            return None
        likelihood = self.q / (self.weights_of_objects * prior)
        is_same = ((likelihood - 1.0).abs() <= largest) & (prior > smallest)
        return candidates & is_same.all(axis, keepdim=True)

    def counts(self, n_weights: int, silent: Tensor | None) -> Tensor:
        """Return the responsibilities summed over what shares a weight, flat [n_weights], float64.

        Args:
            n_weights: number of the gate's log weights.
            silent: objects to leave out.
        """
        q = self.q if silent is None else self.q.masked_fill(silent, 0.0)
        summed = q if q.shape == self.index.shape else _sum_to(q, self.index.shape)
        counted = torch.bincount(self.index.flatten(), summed.double().flatten(), minlength=n_weights)
        return counted.clamp_min_(0.0)

    def responsibilities(self, n_components: int) -> Tensor:
        """Return q(z) [*plates, K], each object's times its weight in the bound.

        Args:
            n_components: K.
        """
        q = self.q.clamp_min(0.0)
        if self.values_axis is None:
            values = (self.index % n_components).expand(q.shape)
            q = q.new_zeros(n_components, *q.shape).scatter(0, values.unsqueeze(0), q.unsqueeze(0))
        else:
            q = q.movedim(self.values_axis, 0)
        enumerated = tuple(range(1, q.ndim - self.n_plates))
        return (q.sum(enumerated) if enumerated else q).movedim(0, -1)


def _sum_to(q: Tensor, shape: torch.Size) -> Tensor:
    """Sum over the axes that a shape lacks or has at length one, in float64."""
    extra = q.ndim - len(shape)
    summed = tuple(axis for axis in range(q.ndim) if axis < extra or shape[axis - extra] == 1 != q.shape[axis])
    return q.sum(summed, keepdim=True, dtype=torch.float64).reshape(shape)
