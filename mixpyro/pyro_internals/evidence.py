"""What an enumerated program says of a gate's assignments, as derivatives of its bound."""

from typing import NamedTuple

import torch
from torch import Tensor


class Evidence(NamedTuple):
    """Zeros that were added to the log density of one assignment site, by which the bound is differentiated.

    The derivative of the bound with respect to the log density of zᵢ = k is q(zᵢ = k), times the weight of the object
    in the bound: N / B in a subsample. So one enumeration gives the loss and the responsibilities, whatever else the
    program enumerates, samples or scales; Khan, Lin (2017), eq. 3, is the natural gradient.
    """

    zeros: Tensor  # [*enumerated, *plates]
    index: Tensor  # which of the gate's log weights each of them belongs to, flat; broadcastable to the zeros
    values_axis: int | None  # the axis, counted from the right, along which z takes its values; None if it is given
    n_plates: int  # number of axes of plates
    may_be_silent: Tensor | bool  # whether an object whose likelihood does not depend on z is left out

    @property
    def derivative(self) -> Tensor | None:
        """Derivative of the bound with respect to the log densities, None where the loss does not depend on them."""
        return None if self.zeros.grad is None else self.zeros.grad.neg()

    def silent(self, log_weights: Tensor) -> Tensor | None:
        """Return which objects say nothing of the weights, for their likelihood does not depend on z.

        Their q(z) is the prior exp(E_q[log π]) itself, which the mean field would count as one object at the current
        weights. Such an object has z summed out exactly, and says nothing.

        Args:
            log_weights: E_q[log π], flat, which ``index`` points into.

        Returns:
            One truth value an object, with an axis of length one for the values; None if no object can be silent.
        """
        q = self.derivative
        if self.may_be_silent is False or self.values_axis is None or q is None:
            return None
        prior = log_weights.detach()[self.index].softmax(self.values_axis)
        likelihood = q / (q.sum(self.values_axis, keepdim=True) * prior)
        # Where a weight is too small for a number, nothing is known of the likelihood there.
        is_known = (prior > torch.finfo(prior.dtype).tiny).all(self.values_axis, keepdim=True)
        difference = (likelihood - 1.0).abs().amax(self.values_axis, keepdim=True)
        return is_known & (difference <= torch.finfo(prior.dtype).eps ** 0.5) & self.may_be_silent

    def counts(self, n_weights: int, silent: Tensor | None) -> Tensor:
        """Return the responsibilities summed over what shares a weight, flat [n_weights], float64.

        Args:
            n_weights: number of the gate's log weights.
            silent: objects to leave out.
        """
        q = self.derivative
        assert q is not None
        q = q.clamp_min(0.0)
        if silent is not None:
            q = q.masked_fill(silent, 0.0)
        summed = q.double().sum_to_size(self.index.shape) if q.shape != self.index.shape else q.double()
        return torch.bincount(self.index.flatten(), summed.flatten(), minlength=n_weights)

    def responsibilities(self, n_components: int) -> Tensor:
        """Return q(z) [*plates, K], each object's times its weight in the bound.

        Args:
            n_components: K.
        """
        q = self.derivative
        assert q is not None
        q = q.clamp_min(0.0)
        if self.values_axis is None:
            values = (self.index % n_components).expand(q.shape)
            q = q.new_zeros(n_components, *q.shape).scatter(0, values.unsqueeze(0), q.unsqueeze(0))
        else:
            q = q.movedim(self.values_axis, 0)
        enumerated = tuple(range(1, q.ndim - self.n_plates))
        return (q.sum(enumerated) if enumerated else q).movedim(0, -1)

    def weights_of_objects(self) -> Tensor:
        """Return how much each object counts in the bound, with an axis of length one for the values of z."""
        q = self.derivative
        assert q is not None
        return q if self.values_axis is None else q.sum(self.values_axis, keepdim=True)
