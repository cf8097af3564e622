"""What an enumerated program says of a gate's assignments, as derivatives of its bound."""

from dataclasses import dataclass
from functools import cached_property

import torch
from pyro.distributions import Independent, MaskedDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
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
        speaks: which objects have a likelihood that depends on z, True for all of them: truth values of the plates'
            shape, found while the program runs. The others are silent: z is summed out exactly, and they say nothing of
            the weights, where the mean field would count each as one object at the current weights.
        is_drawn: whether z is a draw from its prior, of which nothing can be learnt.
        derivative: of the loss with respect to the terms, where it is not their ``grad``.
    """

    terms: Tensor
    index: Tensor
    values_axis: int | None
    n_plates: int
    speaks: Tensor | bool
    is_drawn: bool = False
    derivative: Tensor | None = None

    @property
    def is_seen(self) -> bool:
        """Whether the loss depends on the terms."""
        return self.derivative is not None or self.terms.grad is not None

    @property
    def loss_derivative(self) -> Tensor:
        """Minus q(z), times the weight of each object: derivative of the loss with respect to the terms."""
        found = self.terms.grad if self.derivative is None else self.derivative
        assert found is not None
        return found

    @cached_property
    def weights_of_objects(self) -> Tensor:
        """How much each object counts in the bound, with an axis of length one for the values of z."""
        axis = self.values_axis
        return -self.loss_derivative if axis is None else self.loss_derivative.sum(axis, keepdim=True).neg_()

    def least_weight(self) -> float:
        """Return how much the object counts that counts least, of those that are not masked."""
        weights = self.weights_of_objects
        enumerated = tuple(range(weights.ndim - self.n_plates))
        weights = weights.sum(enumerated) if enumerated else weights
        least = float(weights.min()) if weights.numel() else 0.0
        if least > 0.0 or not bool((weights > 0.0).any()):
            return max(least, 0.0)
        return float(weights[weights > 0.0].min())

    @property
    def silent(self) -> Tensor | None:
        """Which objects say nothing of the weights, broadcastable to the terms; None if no object is silent."""
        if self.values_axis is None or self.speaks is True:
            return None
        return torch.as_tensor(self.speaks, device=self.terms.device).logical_not()

    def note(self, distribution: TorchDistributionMixin, mask: Tensor | bool | None) -> None:
        """Note a later site of the program: objects speak where it depends on z and is not masked.

        Args:
            distribution: of the site.
            mask: of the site, True or None where nothing is masked.
        """
        axis = self.values_axis
        if self.speaks is True or axis is None:
            return
        shape = distribution.batch_shape
        if len(shape) < -axis or shape[axis] == 1:
            return
        seen: Tensor | bool = True
        for one in (mask, _mask_of(distribution)):
            if one is not None and one is not True:
                seen = one if seen is True else torch.as_tensor(seen) & torch.as_tensor(one)
        if isinstance(seen, Tensor):
            if seen.ndim > self.n_plates:
                seen = seen.reshape(-1, *seen.shape[seen.ndim - self.n_plates :]).any(0)
            seen = seen if self.speaks is False else torch.as_tensor(self.speaks) | seen
        self.speaks = seen or self.speaks if isinstance(seen, bool) else seen

    def counts(self, n_weights: int) -> Tensor:
        """Return the responsibilities of objects that speak, summed over what shares a weight [n_weights], float64.

        Args:
            n_weights: number of the gate's log weights, flat.
        """
        silent, minus_q = self.silent, self.loss_derivative
        minus_q = minus_q if silent is None else minus_q.masked_fill(silent, 0.0)
        summed = minus_q if minus_q.shape == self.index.shape else _sum_to(minus_q, self.index.shape)
        counted = torch.bincount(self.index.flatten(), summed.double().flatten(), minlength=n_weights)
        return counted.neg_().clamp_min_(0.0)

    def responsibilities(self, n_components: int) -> Tensor:
        """Return q(z) [*plates, K], each object's times its weight in the bound.

        Args:
            n_components: K.
        """
        q = self.loss_derivative.neg().clamp_min_(0.0)
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


def _mask_of(distribution: TorchDistributionMixin) -> Tensor | bool | None:
    """Return the mask that a distribution has itself, by its ``mask`` method, over its batch axes."""
    if isinstance(distribution, MaskedDistribution):
        return distribution._mask
    if isinstance(distribution, Independent):
        mask = _mask_of(distribution.base_dist)
        axes = distribution.reinterpreted_batch_ndims
        if isinstance(mask, Tensor) and axes:
            wide = mask.expand(*distribution.base_dist.batch_shape)
            return wide.flatten(wide.ndim - axes).any(-1)
        return mask
    return None
