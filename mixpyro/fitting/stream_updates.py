"""Updates of a mixture by the batches of a stream, and what a stream remembers between them."""

from collections.abc import Callable

import torch
from torch import Tensor

from mixpyro import arguments
from mixpyro.arguments.module_contents import contents_of
from mixpyro.conjugate_part import ConjugatePart
from mixpyro.experts.banks import Banks
from mixpyro.fitting.far_estimates import take_back
from mixpyro.fitting.gradient.m_step import MStep
from mixpyro.fitting.lost_components import LostComponents
from mixpyro.fitting.moved_components import Averages, take_components
from mixpyro.fitting.stream_steps import Pace, improve, meet, sums_of_batch, with_columns
from mixpyro.fitting.table import Table
from mixpyro.gates.per_object import ObjectGate
from mixpyro.mixture import MixtureOfExperts
from mixpyro.numerics import nested
from mixpyro.part import Part
from mixpyro.pyro_internals.parameter_store import has_parameters
from mixpyro.shapes import Value


class StreamUpdates:
    """Running averages of a stream, and the steps that a mixture takes with them.

    Args:
        mixture: what to fit, in place.
        n_objects: N, of which the posteriors shall speak; None for those seen.
        step_size: of the running average, a number in (0, 1] or a function of the step's number.
        lr: step size of Adam at the first step.
        seed: of the rows that are kept to find components which the first batch lacks.
    """

    def __init__(
        self,
        mixture: MixtureOfExperts,
        *,
        n_objects: float | None,
        step_size: float | Callable[[int], float],
        lr: float,
        seed: int,
    ) -> None:
        self.mixture, self.n_objects, self.step_size, self.lr, self.seed = mixture, n_objects, step_size, lr, seed
        self.n_steps, self.n_seen = 0, 0.0
        self._averages: dict[Part | str, Value] = {}
        self._m_steps: dict[Part, MStep] = {}
        self._lost = LostComponents(mixture, self.seed) if LostComponents.is_possible(mixture) else None

    def kept(self) -> Callable[[], None]:
        """Keep what this object and its mixture are, and return what puts it back."""
        attributes, averages, m_steps = dict(vars(self)), dict(self._averages), dict(self._m_steps)
        put_back = [contents_of(self.mixture), *(m_step.kept() for m_step in m_steps.values())]
        if self._lost is not None:
            put_back.append(self._lost.as_kept())

        def put_all_back() -> None:
            vars(self).update(attributes)
            for own, before in ((self._averages, averages), (self._m_steps, m_steps)):
                own.clear()
                own.update(before)  # type: ignore[arg-type]
            for one in put_back:
                one()

        return put_all_back

    def step(self, table: Table) -> None:
        """Take one step with the responsibilities under the posteriors so far.

        Args:
            table: the batch, with one object at least.
        """
        gate, experts = self.mixture.gate, self.mixture.experts
        meet(self.mixture, table)
        columned = with_columns(table, experts)
        # Before batches 2, 3, 5, 9, …: estimates that stay far out, as they may, cost nothing in a long stream.
        if self.n_seen and not self.n_steps & (self.n_steps + 1):
            take_back(self.mixture, columned)
        statistics, r, log_evidence = sums_of_batch(self.mixture, columned)
        if self._lost is not None and self._take_over(table, log_evidence):
            statistics, r, _ = sums_of_batch(self.mixture, columned)
        pace = self._pace(table.n_objects)
        if isinstance(gate, ObjectGate):
            assert r is not None
            gate.update(gate.statistics(table.gate_x, r.mT), step_size=pace.size)
        else:
            self._update(gate, statistics.gate, pace)
        self._update(experts, statistics.experts, pace)
        if r is None:
            return
        of_rows, scale = table.of_rows(r).mT, pace.total / pace.n_objects
        noise = experts.noise_sums(table.x, table.y, of_rows)
        self._improve(gate, table.gate_x, scale * r.mT, pace=pace)
        self._improve(experts, table.x, table.y, scale * of_rows, pace=pace)
        # Last, for a step on one batch has set the noise from that batch alone.
        experts.set_noise(self._averaged("noise", pace.per_object(noise), pace.size))

    def _take_over(self, table: Table, log_evidence: Tensor) -> bool:
        """Let components that are needed least take badly explained rows, if that raises the bound; return whether."""
        assert self._lost is not None
        gate, experts = self.mixture.gate, self.mixture.experts
        averages = Averages(self._averages.get(gate), self._averages[experts]) if experts in self._averages else None
        found = self._lost.search(table, log_evidence, averages)
        if found is None:
            return False
        total = self.n_seen if self.n_objects is None else self.n_objects
        take_components(self.mixture, found.state, found.averages, found.components, total)
        self._averages[experts] = found.averages.experts
        if gate in self._averages:
            self._averages[gate] = found.averages.gate
        return True

    def _pace(self, n_objects: float) -> Pace:
        """Count a batch, and return how far the step on it goes."""
        size = self._size(n_objects) if self.n_seen else 1.0
        self.n_steps += bool(self.n_seen)
        self.n_seen += n_objects
        total = self.n_seen if self.n_objects is None else self.n_objects
        return Pace(n_objects, total, size, is_first=not self.n_steps)

    def _update(self, part: Part, statistics: Value, pace: Pace) -> None:
        """Set the posterior that N rows like those in the running average would give; let estimates take a step."""
        if isinstance(part, Banks):
            for member, own in zip(part.members, statistics, strict=True):
                self._update(member, own, pace)
        elif part.takes_steps:
            improve(part, statistics, pace, lambda mean: self._averaged(part, mean, pace.size))
        elif isinstance(part, ConjugatePart):
            mean = pace.per_object(nested.select(statistics, 0))
            part.update(nested.scale(pace.total, self._averaged(part, mean, pace.size)))

    def _averaged(self, key: Part | str, mean: Value, size: float) -> Value:
        """Return the running average of sums per object, this batch included."""
        if key in self._averages:
            mean = nested.blend((1.0 - size, self._averages[key]), (size, mean))
        self._averages[key] = mean
        return mean

    def _improve(self, part: Part, *rows: Tensor, pace: Pace) -> None:
        """Improve parameters that read rows, after the first batch: that one has been fitted to its optimum.

        A part with a method of its own goes ``size`` of the way that one step of it would go on the batch. Newton's
        step has the units of the parameters, which Adam's has not.
        """
        if isinstance(part, Banks):
            for _, member, its_rows in part.rows_of_members(*rows):
                self._improve(member, *its_rows, pace=pace)
            return
        if not has_parameters(part) or part.takes_steps or pace.is_first:
            return
        by_gradient: list[tuple[Part, tuple[Tensor, ...]]] = []
        before = [parameter.clone() for parameter in part.parameters()]
        part.maximise(*rows, by_gradient=lambda one, *own: by_gradient.append((one, own)), n_steps=1)
        for parameter, old in zip(part.parameters(), before, strict=True):
            parameter.copy_(torch.lerp(old, parameter, pace.size))
        # Of rows that weigh less than one object the prior is what is large.
        scale = 1.0 / max(pace.total, 1.0)
        for one, own in by_gradient:
            self._m_steps.setdefault(one, MStep(one)).step(*own, scale=scale, lr=self.lr * pace.size)

    def _size(self, n_objects: float) -> float:
        """Return the size of this step: a batch that is smaller than those before counts for less."""
        step = self.n_steps + 1
        size = arguments.step_size(self.step_size(step)) if callable(self.step_size) else self.step_size
        return 1.0 - (1.0 - size) ** min(1.0, n_objects * step / self.n_seen)
