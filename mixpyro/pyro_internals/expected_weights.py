"""Programs in which gates are under their posterior instead of their prior: the weights integrated out exactly."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixpyro.shapes import Responsibilities, Scalar


class BoundTerms(NamedTuple):
    """What a gate contributes to the mean-field bound of a program."""

    log_weights: Tensor  # E_q[log π], [B, K] or [1, K]
    divergence: Tensor  # KL(q‖p) in nats, a scalar; [B] where each object has a posterior of its own


class ModelCall(NamedTuple):
    """One call of a gate's model, with two tensors of zeros by which the bound is differentiated."""

    x: Tensor
    objects: Tensor  # [B], row numbers in the whole data
    n_objects: int
    log_weights: Tensor  # zeros [B, K], added to E_q[log π]
    divergence: Scalar  # zero, added to the bound beside −KL(q‖p)


class ObjectResponsibilities(NamedTuple):
    """Responsibilities of the objects that a program has seen."""

    x: Tensor
    objects: Tensor  # [B], row numbers in the whole data
    responsibilities: Responsibilities  # [B, K], each row times the weight of the object: N / B in a subsample
    n_objects: int
    is_subsample: bool


@dataclass
class ModelCalls:
    """The calls of one gate's model in a program.

    The derivative of the program's bound with respect to E_q[log πᵢₖ] is q(zᵢ = k), times the weight of the object in
    the bound: N / B in a subsample. So one enumeration gives the loss and the responsibilities, whatever else the
    program enumerates, samples or scales; Khan, Lin (2017), eq. 3, is the natural gradient.

    Attributes:
        calls: one per particle, and those that Pyro made to find the program's structure.
    """

    calls: list[ModelCall] = field(default_factory=list)

    def record(self, x: Tensor, objects: Tensor, n_objects: int, n_components: int) -> ModelCall:
        """Record a call of the gate's model, and return it with its zeros.

        Args:
            x: gate inputs [B, D].
            objects: row numbers in the whole data [B].
            n_objects: N.
            n_components: K.
        """
        log_weights = x.new_zeros(len(x), n_components, requires_grad=True)
        divergence = torch.zeros((), dtype=torch.float64, device=x.device, requires_grad=True)
        self.calls.append(ModelCall(x.detach(), objects, n_objects, log_weights, divergence))
        return self.calls[-1]

    def zeros(self) -> list[Tensor]:
        """Return the zeros of all calls, by which the bound is to be differentiated."""
        return [zero for call in self.calls for zero in (call.log_weights, call.divergence)]

    def responsibilities(self) -> ObjectResponsibilities | None:
        """Return the responsibilities of all calls once the loss has been differentiated.

        Returns:
            None where the loss depends on no call.
        """
        calls = [call for call in self.calls if call.log_weights.grad is not None]
        if not calls:
            return None
        # The KL divergence of a program that is scaled as a whole is scaled too, and the optimum stays where it was.
        scale = sum(call.divergence.grad for call in calls if call.divergence.grad is not None)
        weighted = torch.cat([call.log_weights.grad for call in calls if call.log_weights.grad is not None]) / scale
        objects, x = torch.cat([call.objects for call in calls]), torch.cat([call.x for call in calls])
        is_subsample = any(len(call.x) < call.n_objects for call in calls)
        return ObjectResponsibilities(x, objects, weighted.clamp_min(0.0), calls[0].n_objects, is_subsample)


_EXPECTED: ContextVar[dict[int, ModelCalls] | None] = ContextVar("mixpyro_expected", default=None)


@contextmanager
def expected_weights(*gates: Any) -> Iterator[list[ModelCalls]]:  # noqa: ANN401 (a Gate imports this module)
    """Integrate the weights of gates out of a program under their posteriors.

    Inside, ``gate.model`` samples no weights: its assignments have the prior exp(E_q[log π]), unnormalised, and
    KL(q‖p) is subtracted in closed form. An ELBO of the program is then the mean-field bound itself, without noise from
    the weights, and ``TraceEnum_ELBO.compute_marginals`` gives exact responsibilities. ``gate.guide`` samples nothing.

    Args:
        *gates: gates of the program; any other gate of the program samples its weights as usual.

    Yields:
        A record for each gate, which gives responsibilities once the loss has been differentiated.

    References:
        Bishop (2006), Pattern Recognition and Machine Learning, eq. 10.46 to 10.49;
        Khan, Lin (2017), Conjugate-computation variational inference, eq. 3.

    Example:
        >>> from mixpyro import DirichletGate
        >>> from pyro.infer import TraceEnum_ELBO
        >>> gate, x = DirichletGate(2), torch.zeros(3, 0)
        >>> with expected_weights(gate):  # −N log Σ exp(ψ(1) − ψ(2)), twice the same
        ...     [round(TraceEnum_ELBO(max_plate_nesting=1).loss(gate.model, gate.guide, x), 4) for _ in range(2)]
        [0.9206, 0.9206]
    """
    records = [ModelCalls() for _ in gates]
    outer = _EXPECTED.get() or {}
    token = _EXPECTED.set({**outer, **{id(gate): record for gate, record in zip(gates, records, strict=True)}})
    try:
        yield records
    finally:
        _EXPECTED.reset(token)


def record_of(gate: object) -> ModelCalls | None:
    """Return the record of a gate's model calls, or None outside :func:`expected_weights`.

    Args:
        gate: any gate.
    """
    return (_EXPECTED.get() or {}).get(id(gate))
