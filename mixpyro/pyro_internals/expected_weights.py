"""Gates under their posterior instead of their prior: the weights of a program integrated out, exactly."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixpyro.shapes import Responsibilities, Scalar


class BoundTerms(NamedTuple):
    """What a gate adds to the mean-field bound of a program."""

    log_weights: Tensor  # E_q[log π], [B, K] or [1, K]
    divergence: Tensor  # KL(q‖p), a scalar; [B] where each object has a posterior of its own


class Visit(NamedTuple):
    """One run of a gate's model: what it saw, and zeros whose gradients tell what the program made of it."""

    x: Tensor
    objects: Tensor  # [B], rows of the whole data
    n_objects: int
    log_weights: Tensor  # [B, K], added to E_q[log π]
    divergence: Scalar  # added to the bound beside KL(q‖p)


class Rows(NamedTuple):
    """Responsibilities of the objects that the program has seen."""

    x: Tensor
    objects: Tensor  # [B]
    responsibilities: Responsibilities  # [B, K], each row times what the object counts: N / B in a subsample
    n_objects: int
    is_subsample: bool


@dataclass
class Evidence:
    """What a program says of one gate's assignments, read off the gradient of its bound.

    The derivative of the bound with respect to E_q[log πᵢₖ] is q(zᵢ = k), times what the object counts in the bound:
    N / B in a subsample. So one enumeration gives the loss and the responsibilities, whatever else the program
    enumerates, samples or scales; Khan, Lin (2017), eq. 3, is the natural gradient.

    Attributes:
        visits: of the gate's model, one a particle, and those that Pyro made to learn the program's structure.
    """

    visits: list[Visit] = field(default_factory=list)

    def visit(self, x: Tensor, objects: Tensor, n_objects: int, n_components: int) -> Visit:
        """Record a run of the gate's model."""
        log_weights = x.new_zeros(len(x), n_components, requires_grad=True)
        divergence = torch.zeros((), dtype=torch.float64, device=x.device, requires_grad=True)
        self.visits.append(Visit(x.detach(), objects, n_objects, log_weights, divergence))
        return self.visits[-1]

    def zeros(self) -> list[Tensor]:
        """What the bound is to be differentiated by."""
        return [zero for visit in self.visits for zero in (visit.log_weights, visit.divergence)]

    def rows(self) -> Rows | None:
        """What the visits add up to once the loss has been differentiated, or None where it depends on none of them."""
        seen = [visit for visit in self.visits if visit.log_weights.grad is not None]
        if not seen:
            return None
        # A program that is scaled as a whole has its KL scaled too, and its optimum is where it was.
        scale = sum(visit.divergence.grad for visit in seen if visit.divergence.grad is not None)
        weighted = torch.cat([visit.log_weights.grad for visit in seen if visit.log_weights.grad is not None]) / scale
        objects, x = torch.cat([visit.objects for visit in seen]), torch.cat([visit.x for visit in seen])
        is_subsample = any(len(visit.x) < visit.n_objects for visit in seen)
        return Rows(x, objects, weighted.clamp_min(0.0), seen[0].n_objects, is_subsample)


_EXPECTED: ContextVar[dict[int, Evidence] | None] = ContextVar("mixpyro_expected", default=None)


@contextmanager
def expected_weights(*gates: Any) -> Iterator[list[Evidence]]:  # noqa: ANN401 (a Gate imports this module)
    """Integrate the weights out of the gates' models under their posteriors.

    Inside, ``gate.model`` samples no weights: its assignments have the prior exp(E_q[log π]), unnormalised, and
    KL(q‖p) is taken off in closed form. An ELBO of the program is then the mean-field bound itself, without noise from
    the weights, and ``TraceEnum_ELBO.compute_marginals`` gives exact responsibilities. ``gate.guide`` samples nothing.

    Args:
        gates: whose weights; other gates are as always.

    Yields:
        What the program says of each gate's assignments.

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
    evidence = [Evidence() for _ in gates]
    outer = _EXPECTED.get() or {}
    token = _EXPECTED.set({**outer, **{id(gate): one for gate, one in zip(gates, evidence, strict=True)}})
    try:
        yield evidence
    finally:
        _EXPECTED.reset(token)


def evidence_of(gate: object) -> Evidence | None:
    """Where the gate's model is to leave what it sees, or None outside :func:`expected_weights`."""
    return (_EXPECTED.get() or {}).get(id(gate))
