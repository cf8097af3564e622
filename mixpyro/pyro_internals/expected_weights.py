"""Programs in which gates are under their posterior instead of their prior: the weights integrated out exactly."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from mixpyro.pyro_internals.evidence import Evidence
from mixpyro.pyro_internals.plates import scale_of_plates
from mixpyro.shapes import Responsibilities


class BoundTerms(NamedTuple):
    """What a gate contributes to the mean-field bound of a program."""

    log_weights: Tensor  # E_q[log π], [B, K] or [1, K]; [*parts, K] of a gate with parts
    divergence: Tensor  # KL(q‖p) in nats, a scalar; [B] where each object has a posterior of its own, [*parts]


class SeenObjects(NamedTuple):
    """Responsibilities of the objects that a program has seen, for a gate that reads rows."""

    x: Tensor  # [B, D]
    objects: Tensor  # [B], row numbers in the whole data
    responsibilities: Responsibilities  # [B, K], each row times the weight of the object: N / B in a subsample
    n_objects: int


class SeenCounts(NamedTuple):
    """Responsibilities summed over the objects that share weights, of the parts that a program has visited."""

    counts: Tensor  # [M, *parents, K], float64, each object's times its weight
    parts: Tensor  # [M], numbers of the parts, flat


@dataclass
class WeightsInProgram:
    """A gate's expected log weights in one run of a program, and the evidence on them.

    Attributes:
        log_weights: E_q[log π], with an axis for each plate, then one for each parent, then K.
        divergence: zeros, added to the bound beside −KL(q‖p): their derivative is the scale of the gate in the bound.
        x: inputs [B, D] of a gate that reads them.
        objects: row numbers of such a gate's objects in the whole data [B].
        n_objects: number of all of them.
        parts: numbers of the parts that share weights, flat [M]; None for a gate that reads rows.
        scale_of_plates: scale that the plates around the call of the gate give it.
        is_subsample: whether the objects are a subsample of a plate.
        evidence: on each assignment site, in the order of the program.
    """

    log_weights: Tensor
    divergence: Tensor
    x: Tensor | None = None
    objects: Tensor | None = None
    n_objects: int = 0
    parts: Tensor | None = None
    scale_of_plates: float = 1.0
    is_subsample: bool = False
    evidence: list[Evidence] = field(default_factory=list)

    @property
    def seen(self) -> list[Evidence]:
        """The evidence that the loss depends on."""
        return [one for one in self.evidence if one.is_seen]

    @property
    def scale(self) -> Tensor:
        """Scale of the gate's divergence in the bound, of the shape of the divergence."""
        return torch.zeros_like(self.divergence) if self.divergence.grad is None else self.divergence.grad.neg()

    def counts(self) -> Tensor:
        """Return the responsibilities summed over what shares a weight, of the shape of the log weights, float64."""
        counted = [one.counts(self.log_weights.numel()) for one in self.seen]
        return sum(counted[1:], start=counted[0]).reshape(self.log_weights.shape)

    def silent_bound(self) -> float:
        """Return what objects that say nothing of the weights have in the bound of the mean field, in nats.

        They have it in place of the zero that they have if z is summed out exactly.
        """
        flat, total = self.log_weights.detach().flatten(), 0.0
        for one in self.seen:
            silent = one.silent
            if silent is not None and one.values_axis is not None:
                normaliser = flat[one.index].logsumexp(one.values_axis, keepdim=True)
                total += float((one.weights_of_objects * silent * normaliser).sum())
        return total

    def counts_several_times(self) -> bool:
        """Return whether every object counts more than once, as those of a minibatch do."""
        least = min((one.least_weight() for one in self.seen), default=0.0)
        return least > float(self.scale.max()) * (1.0 + 1e-4)

    def leaves(self) -> list[Tensor]:
        """Return the tensors that the bound is to be differentiated by."""
        return [self.divergence, *(one.terms for one in self.evidence)]


@dataclass
class GateRecord:
    """What a program has said of one gate.

    Attributes:
        is_collapsed: whether z is to be summed out given the weights: the program has the weights at their mean then.
        given_counts: counts [K] in place of the responsibilities' sums, times the scale of the gate.
        runs: one per run of the program, those included that Pyro made to find the program's structure.
    """

    is_collapsed: bool = False
    given_counts: Tensor | None = None
    runs: list[WeightsInProgram] = field(default_factory=list)

    def begin(self, terms: BoundTerms, **attributes: Any) -> WeightsInProgram:  # noqa: ANN401 (of the record)
        """Record a run, and return it with its zeros.

        Args:
            terms: what the gate contributes to the bound.
            **attributes: of :class:`WeightsInProgram`.
        """
        shape = () if "x" in attributes else terms.divergence.shape
        zeros = torch.zeros(shape, dtype=torch.float64, device=terms.log_weights.device, requires_grad=True)
        run = WeightsInProgram(terms.log_weights, zeros, scale_of_plates=scale_of_plates(), **attributes)
        self.runs.append(run)
        return self.runs[-1]

    @property
    def seen(self) -> list[WeightsInProgram]:
        """The runs that the loss depends on."""
        return [run for run in self.runs if run.seen]

    def leaves(self) -> list[Tensor]:
        """Return the tensors of all runs that the bound is to be differentiated by."""
        return [zeros for run in self.runs for zeros in run.leaves()]

    @property
    def scale(self) -> float:
        """The largest scale of the gate in the bound: 1, but for a program that is scaled."""
        return sum(float(run.scale.max()) for run in self.seen)

    @property
    def is_subsample(self) -> bool:
        """Whether the program has seen some objects of many, each of which counts for several."""
        return any(run.is_subsample or run.counts_several_times() for run in self.seen)

    def check(self, site: str) -> None:
        """Raise if what a program has said of the gate cannot be.

        Args:
            site: full name of the gate's assignments, for messages.

        Raises:
            ValueError: if a derivative is not finite or negative, or the gate is scaled up with its objects.
        """
        for one in (one for run in self.seen for one in run.seen):
            least, most = float(one.weights_of_objects.min()), float(one.weights_of_objects.max())
            if not (least >= -1e-6 * (1.0 + most) and most < math.inf):
                raise ValueError(
                    f"responsibilities of {site!r} must be finite and non-negative; got sums from {least:.6g} to "
                    f"{most:.6g}."
                )
        scale = sum(float(run.scale.max()) / run.scale_of_plates for run in self.seen)
        if scale > 1.0 + 1e-4:
            raise ValueError(
                f"`poutine.scale` must not be around a call of the gate's model; got {site!r} scaled by "
                f"{scale:.6g}, its prior with it. For minibatches write `plate(size=N, subsample_size=B)`, or "
                "`subsample=rows`, which counts every object N / B times."
            )

    def silent_bound(self) -> float:
        """Return what objects without evidence on z have in the bound, in nats."""
        return sum(run.silent_bound() for run in self.seen)

    def seen_objects(self) -> SeenObjects:
        """Return the responsibilities of the objects of all runs, for a gate that reads rows; zeros for silent ones."""
        x, objects = (torch.cat([getattr(run, name) for run in self.seen]) for name in ("x", "objects"))
        rows = torch.cat([run.counts().flatten(0, -2) for run in self.seen]) / self.scale
        return SeenObjects(x, objects, rows.to(x.dtype), self.seen[0].n_objects)

    def seen_counts(self) -> SeenCounts:
        """Return the responsibilities summed over what shares weights, of the parts that all runs have visited."""
        if self.given_counts is not None:
            return SeenCounts(
                self.given_counts.unsqueeze(0) / self.scale, self.given_counts.new_zeros(1, dtype=torch.long)
            )
        counts, scales, parts = [], [], []
        for run in self.seen:
            assert run.parts is not None
            own = run.log_weights.shape[run.divergence.ndim :]
            counts.append(run.counts().reshape(-1, *own))
            scales.append(run.scale.flatten())
            parts.append(run.parts)
        known, place = torch.cat(parts).unique(return_inverse=True)
        scale = torch.cat(scales)
        total = scale.new_zeros(len(known)).index_add_(0, place, scale)
        summed = torch.cat(counts)
        summed = summed.new_zeros(len(known), *summed.shape[1:]).index_add_(0, place, summed)
        is_visited = total > 0
        summed, total = summed[is_visited], total[is_visited]
        return SeenCounts(summed / total.reshape(-1, *[1] * (summed.ndim - 1)), known[is_visited])

    def responsibilities(self) -> list[Tensor]:
        """Return q(z) [*plates, K] of each assignment site, times the weight of the object in the bound.

        Those of several runs of the program, one a particle, are summed.
        """
        runs = [[one.responsibilities(run.log_weights.shape[-1]) for one in run.seen] for run in self.seen]
        return [torch.stack(same).sum(0) for same in zip(*runs, strict=True)]


class SitesThatSpeak(Messenger):
    """Tell the evidence on a gate's assignments which objects have a likelihood that depends on them.

    Args:
        records: of the gates of the program.
    """

    def __init__(self, records: list[GateRecord]) -> None:
        super().__init__()
        self.records = records

    def _pyro_post_sample(self, message: Any) -> None:  # noqa: ANN401
        if site_is_subsample(message):
            return
        for record in self.records:
            for one in record.runs[-1].evidence if record.runs else ():
                one.note(message["fn"], message["mask"])


_EXPECTED: ContextVar[dict[int, GateRecord] | None] = ContextVar("mixpyro_expected", default=None)


@contextmanager
def expected_weights(*gates: Any) -> Iterator[list[GateRecord]]:  # noqa: ANN401 (a Gate imports this module)
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
        >>> import functools
        >>> import pyro
        >>> from mixpyro import DirichletGate
        >>> from pyro.infer import TraceEnum_ELBO
        >>> gate, x = DirichletGate(2), torch.zeros(3, 0)
        >>> with expected_weights(gate):  # −N log Σ exp(ψ(1) − ψ(2)), twice the same
        ...     plate = pyro.plate("objects", 3, dim=-1)
        ...     model, guide = (functools.partial(call, x, plate=plate) for call in (gate.model, gate.guide))
        ...     [round(TraceEnum_ELBO(max_plate_nesting=1).loss(model, guide), 4) for _ in range(2)]
        [0.9206, 0.9206]
    """
    records = [GateRecord() for _ in gates]
    outer = _EXPECTED.get() or {}
    token = _EXPECTED.set({**outer, **{id(gate): record for gate, record in zip(gates, records, strict=True)}})
    try:
        with SitesThatSpeak(records):
            yield records
    finally:
        _EXPECTED.reset(token)


def record_of(gate: object) -> GateRecord | None:
    """Return the record of a gate's program, or None outside :func:`expected_weights`.

    Args:
        gate: any gate.
    """
    return (_EXPECTED.get() or {}).get(id(gate))
